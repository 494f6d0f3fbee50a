from pathlib import Path

import pytest

from container.errors import SettingsError
from container.settings import Settings, base_dir


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
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "6.5"),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "1_0"),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "٣"),
        ("SAGEMAKER_CONTAINER_LOG_LEVEL", "loud"),
        ("SAGEMAKER_CONTAINER_LOG_LEVEL", "99"),
        ("BYOA_THREADS", "two"),
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


@pytest.mark.parametrize(
    ("text", "is_batch"),
    [
        ("true", True),
        ("True", True),
        ("1", True),
        ("yes", True),
        ("whatever", True),
        ('"true"', True),
        ("false", False),
        (" FALSE ", False),
        ("0", False),
        ("no", False),
    ],
)
def test_from_env_batch_takes_any_value(text: str, is_batch: bool) -> None:
    """C-064, C-071: the platform says `true`; AWS's own images ask only whether it is set."""
    assert Settings.from_env({"SAGEMAKER_BATCH": text}).is_batch is is_batch


@pytest.mark.parametrize(
    ("text", "ensemble"),
    [
        ("False", False),
        ("no", False),
        ("0", False),
        ("off", False),
        ("'false'", False),
        ("TRUE", True),
        ("yes", True),
        ("1", True),
    ],
)
def test_from_env_flag_has_several_spellings(text: str, ensemble: bool) -> None:
    """C-064: a name of AWS's is read as people write it."""
    assert Settings.from_env({"SAGEMAKER_INFERENCE_ENSEMBLE": text}).ensemble is ensemble


def test_from_env_name_that_is_listed_twice_counts_once() -> None:
    """C-093: or a JSON answer would have a member twice."""
    settings = Settings.from_env({"SAGEMAKER_INFERENCE_OUTPUT": "raw_score, labels,Raw_Score,"})

    assert settings.output_keys == ("raw_score", "labels")


def test_from_env_flag_that_says_nothing_is_refused() -> None:
    """Which of the two was meant cannot be known."""
    with pytest.raises(SettingsError, match=r"SAGEMAKER_INFERENCE_ENSEMBLE='maybe'.*true or false"):
        Settings.from_env({"SAGEMAKER_INFERENCE_ENSEMBLE": "maybe"})


@pytest.mark.parametrize(
    ("text", "level"),
    [("INFO", 20), ("debug", 10), ("warn", 30), ("Critical", 50), ("20", 20), ('"20"', 20)],
)
def test_from_env_log_level_has_names_and_numbers(text: str, level: int) -> None:
    """C-064: AWS's toolkits take the number; people write the name."""
    assert Settings.from_env({"SAGEMAKER_CONTAINER_LOG_LEVEL": text}).log_level == level


@pytest.mark.parametrize("text", ["8080", " 8080 ", "+8080", "08080"])
def test_from_env_number_has_several_spellings(text: str) -> None:
    """C-064: what does not change its meaning does no harm."""
    assert Settings.from_env({"SAGEMAKER_BIND_TO_PORT": text}).port == 8080


def test_settings_of_many_models() -> None:
    """C-078, C-081: names keep their case, patterns their stars."""
    settings = Settings.from_env(
        {
            "SAGEMAKER_MULTI_MODEL": "True",
            "BYOA_MODEL_ROOTS": "/opt/ml/models:/mnt/more",
            "BYOA_MODEL_MEMORY_MB": "512",
            "BYOA_ON_FULL": "refuse",
            "BYOA_PINNED_MODELS": "Vip-*, other ,",
        }
    )

    assert settings.is_multi_model
    assert settings.model_roots == (Path("/opt/ml/models"), Path("/mnt/more"))
    assert settings.model_memory_bytes == 512 * 2**20
    assert settings.on_full == "refuse"
    assert settings.pinned_models == ("Vip-*", "other")


@pytest.mark.parametrize("given", [{}, {"BYOA_MODEL_ROOTS": " "}, {"BYOA_MODEL_ROOTS": ":"}])
def test_models_lie_below_models_and_model_of_the_base_directory(given: dict[str, str]) -> None:
    """C-106: unless a setting names other directories."""
    settings = Settings.from_env({"SAGEMAKER_BASE_DIR": "/tree", **given})

    assert settings.model_roots == (Path("/tree/models"), Path("/tree/model"))


def test_on_full_takes_its_two_words_only() -> None:
    """C-081: the message names both."""
    with pytest.raises(SettingsError, match=r"BYOA_ON_FULL.*evict or refuse"):
        Settings.from_env({"BYOA_ON_FULL": "Evict"})


@pytest.mark.parametrize(
    ("given", "expected"), [({}, "/opt/ml"), ({"SAGEMAKER_BASE_DIR": "/tree"}, "/tree")]
)
def test_base_dir_is_known_although_another_setting_is_refused(
    given: dict[str, str], expected: str
) -> None:
    """C-027: the reason is left there."""
    assert base_dir(given | {"BYOA_HOSTS_PORT": "none"}) == Path(expected)
