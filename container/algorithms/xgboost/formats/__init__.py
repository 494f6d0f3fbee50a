"""XGBoost's model files: found, validated, and converted where XGBoost reads them no more."""
