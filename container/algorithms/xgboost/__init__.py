"""XGBoost as an algorithm of this container: `algorithm` declares it."""
