from pathlib import Path

import pytest

from container.errors import SettingsError
from container.settings import Settings


def test_from_env_empty_environment_gives_the_defaults() -> None:
    """Nothing has to be set, and an empty variable is one that is not set."""
    settings = Settings.from_env({"SAGEMAKER_BIND_TO_PORT": " "})

    assert settings == Settings()
    assert settings.port == 8080
    assert settings.base_dir == Path("/opt/ml")
    assert settings.max_payload_bytes == 100 * 1024 * 1024


def test_from_env_reads_typed_values() -> None:
    """Each variable arrives as its type and unit."""
    settings = Settings.from_env(
        {
            "SAGEMAKER_BIND_TO_PORT": "18080",
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": "6",
            "SAGEMAKER_MODEL_SERVER_WORKERS": "3",
            "SAGEMAKER_BASE_DIR": "/srv/ml",
            "UNRELATED": "\udcff not ours",
        }
    )

    assert settings.port == 18080
    assert settings.max_payload_bytes == 6_291_456
    assert settings.workers == 3
    assert settings.base_dir == Path("/srv/ml")


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "0"),
        ("SAGEMAKER_BIND_TO_PORT", "65536"),
        ("SAGEMAKER_BIND_TO_PORT", "eighty"),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "0"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "-1"),
        ("SAGEMAKER_CONTAINER_LOG_LEVEL", "INFO"),
    ],
)
def test_from_env_bad_value_names_variable_value_and_what_is_accepted(
    variable: str, text: str
) -> None:
    """The message alone is enough to mend the setting."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({variable: text})

    assert variable in caught.value.message
    assert repr(text) in caught.value.message
    assert "an integer from" in caught.value.message
