"""Advice to a batch transform."""

import pytest

from container.settings import Settings
from serve.http.admin_app import transform_parameters


@pytest.mark.parametrize(
    ("environment", "n_workers", "transforms", "mebibytes"),
    [
        ({}, 2, 2, 6),
        ({}, 40, 16, 6),
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "1"}, 40, 40, 1),
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "1"}, 400, 100, 1),
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"}, 2, 2, 6),
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "1024"}, 2, 2, 6),
    ],
    ids=["default", "workers", "small-payload", "both", "no-limit", "large-payload"],
)
def test_advice_is_legal_whatever_the_settings(
    environment: dict[str, str], n_workers: int, transforms: int, mebibytes: int
) -> None:
    """Advises 1 to 100 transforms, and at most 100 MB together (C-070)."""
    advice = transform_parameters(Settings.from_env(environment), n_workers)

    assert advice == {
        "MaxConcurrentTransforms": transforms,
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": mebibytes,
    }
