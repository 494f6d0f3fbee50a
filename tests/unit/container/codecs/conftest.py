"""Hypothesis profiles of the property tests: 50 examples by default, 5000 a night.

CI's nightly run sets HYPOTHESIS_PROFILE=thorough.
"""

import os

from hypothesis import HealthCheck, settings

# The first example imports pyarrow; and the machine may be busy.
settings.register_profile(
    "codecs", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("codecs"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "codecs"))
