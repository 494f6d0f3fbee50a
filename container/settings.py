"""Settings: every environment variable of the container, declared once.

Variables of AWS's toolkits keep their meaning, and take every spelling of a value that the
toolkits take (C-064); ours begin with `BYOA_`. An unset or empty variable has its default.
`Settings.from_env` is the only reader of the environment.

Not pydantic-settings: its import costs 75 ms of CPU on top of pydantic's, a quarter of a cold
start, its messages lack the accepted values, and it reads `1_0` as 10.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from container.errors import SettingsError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parser(Generic[T]):
    """Conversion of a variable's text to its value; raises `ValueError`."""

    accepted: str
    parse: Callable[[str], T]


def _number(text: str) -> int:
    """Read an integer in plain digits: `int` would accept `1_0` and digits of every script."""
    if not re.fullmatch(r"[+-]?[0-9]+", text.strip()):
        raise ValueError(text)
    return int(text)


def _integer(minimum: int, maximum: int) -> Parser[int]:
    def parse(text: str) -> int:
        number = _number(text)
        if not minimum <= number <= maximum:
            raise ValueError(text)
        return number

    return Parser(f"an integer from {minimum} to {maximum}", parse)


def _mebibytes(minimum: int, maximum: int) -> Parser[int]:
    number = _integer(minimum, maximum)
    return Parser(f"{number.accepted}, in MiB", lambda text: number.parse(text) * 2**20)


def _word(text: str) -> str:
    """Strip the quotes that `docker run --env-file` and JSON leave around a value."""
    return text.strip().strip("\"'").strip().lower()


def _level(text: str) -> int:
    """Read a level of `logging`, by number or name."""
    word = _word(text)
    if word.upper() in logging.getLevelNamesMapping():
        return logging.getLevelNamesMapping()[word.upper()]
    return _LEVEL_NUMBER.parse(word)


def _names(text: str) -> tuple[str, ...]:
    # Deduplicate: a name given twice would be a member of a JSON object twice.
    return tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))


_NO = ("false", "0", "no", "off")
_TRUTHS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(_NO, False)
_LEVEL_NUMBER = _integer(0, 50)


def _patterns(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _directories(text: str) -> tuple[Path, ...]:
    return tuple(Path(part).absolute() for part in text.split(":") if part)


def _one_of(*words: str) -> Parser[str]:
    return Parser(" or ".join(words), lambda text: {word: word for word in words}[text.strip()])


_TEXT = Parser("any text", str.strip)
_FLAG = Parser("true or false (or 1, 0, yes, no, on, off)", lambda text: _TRUTHS[_word(text)])
# AWS's own images only test whether the variable is set.
_IS_SET = Parser("any text; false, 0, no and off mean false", lambda text: _word(text) not in _NO)
_LEVEL = Parser(f"{_LEVEL_NUMBER.accepted}, or debug, info, warning, error or critical", _level)
_LIST = Parser("names with commas between them", _names)
_DIRECTORY = Parser("the path of a directory", lambda text: Path(text).absolute())
_DIRECTORIES = Parser("paths of directories with colons between them", _directories)
_PATTERNS = Parser("patterns such as `eu-*` with commas between them", _patterns)


def _setting(variable: str, parser: Parser[Any], default: object, meaning: str) -> Any:
    metadata = {"variable": variable, "parser": parser, "meaning": meaning}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings, typed and checked."""

    base_dir: Path = _setting(
        "SAGEMAKER_BASE_DIR",
        _DIRECTORY,
        Path("/opt/ml"),
        "The directory that the platform mounts; another one in process mode.",
    )
    port: int = _setting(
        "SAGEMAKER_BIND_TO_PORT",
        _integer(1, 65535),
        8080,
        "TCP port of the server. The platform sets it in multi-container endpoints.",
    )
    workers: int | None = _setting(
        "SAGEMAKER_MODEL_SERVER_WORKERS",
        _integer(1, 256),
        None,
        "Number of worker processes; by default the CPUs that the cgroup grants.",
    )
    timeout_seconds: int = _setting(
        "SAGEMAKER_MODEL_SERVER_TIMEOUT",
        _integer(1, 3600),
        60,
        "Time limit in seconds of an invocation (then 503), and of the arrival of its request "
        "(then 408). A worker that still runs the invocation is replaced.",
    )
    default_accept: str | None = _setting(
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT",
        _TEXT,
        None,
        "Media type of an answer to `*/*` or no `Accept`; by default the algorithm's own, "
        "and JSON on a multi-model server.",
    )
    output_keys: tuple[str, ...] = _setting(
        "SAGEMAKER_INFERENCE_OUTPUT",
        _LIST,
        (),
        "Outputs in an answer instead of the score, e.g. `predicted_label,probabilities`.",
    )
    ensemble: bool = _setting(
        "SAGEMAKER_INFERENCE_ENSEMBLE",
        _FLAG,
        True,
        "True if several models in one artifact predict together; if false, only the first one.",
    )
    libsvm_base: int | None = _setting(
        "BYOA_LIBSVM_BASE",
        _integer(0, 1),
        None,
        "Number of the first column in libsvm requests, 0 or 1, for models whose manifest does not "
        "say it. By default a model without a manifest is served as by AWS's image: a "
        "request counts from 1 unless one of its columns is 0; one that was trained here on "
        "another format counts from 0.",
    )
    algorithm_dir: Path = _setting(
        "BYOA_ALGORITHM_DIR",
        _DIRECTORY,
        Path("/opt/algorithms"),
        "Directory of algorithm files: `nearest_centroid.py` is the algorithm `nearest-centroid`.",
    )
    is_batch: bool = _setting(
        "SAGEMAKER_BATCH",
        _IS_SET,
        False,
        "Set by the platform in batch transform: every answer ends with a newline.",
    )
    program: str | None = _setting(
        "SAGEMAKER_PROGRAM",
        _TEXT,
        None,
        "Script of the user's own code, relative to `code/` in the model directory or a path below "
        "the model directory; by default `inference.py`, if it exists. In training, the script "
        "to run, relative to its sources.",
    )
    submit_directory: str | None = _setting(
        "SAGEMAKER_SUBMIT_DIRECTORY",
        _TEXT,
        None,
        "Directory of the user's own code below the model directory, e.g. `/opt/ml/model/src`; by "
        "default `code`, also if the directory is elsewhere. In training, the sources of the "
        "script: a directory or archive below `/opt/ml`.",
    )
    training_module: str | None = _setting(
        "SAGEMAKER_TRAINING_MODULE",
        _TEXT,
        None,
        "Module that AWS's toolkit would train with. A training job with it is refused: "
        "SAGEMAKER_PROGRAM names a script.",
    )
    job_name: str | None = _setting(
        "TRAINING_JOB_NAME",
        _TEXT,
        None,
        "Name of the training job, set by the platform; a training script finds it in "
        "SM_TRAINING_ENV.",
    )
    max_payload_bytes: int = _setting(
        "SAGEMAKER_MAX_PAYLOAD_IN_MB",
        _mebibytes(0, 1024),
        100 * 2**20,
        "Largest request body; the default, 100 MiB, is the most that batch transform sends. "
        "0 means no limit.",
    )
    n_threads: int = _setting(
        "BYOA_THREADS",
        _integer(1, 64),
        2,
        "Threads of each worker for large bodies and slow models. Code that is not thread-safe has "
        "one.",
    )
    max_waiting: int = _setting(
        "BYOA_MAX_WAITING",
        _integer(0, 10_000),
        64,
        "Length of the bounded queue of each worker: invocations that wait for a thread or for the "
        "event loop. Further ones are refused with 503 (backpressure).",
    )
    emf_namespace: str | None = _setting(
        "BYOA_EMF_NAMESPACE",
        _TEXT,
        None,
        "CloudWatch namespace; if set, the log line of an invocation is also a metric in "
        "CloudWatch's Embedded Metric Format.",
    )
    log_level: int = _setting(
        "SAGEMAKER_CONTAINER_LOG_LEVEL",
        _LEVEL,
        20,
        "Lowest level logged, by name or number: 10 debug, 20 info, 30 warning, 40 error.",
    )
    checkpoint_seconds: int = _setting(
        "BYOA_CHECKPOINT_SECONDS",
        _integer(0, 86_400),
        60,
        "Seconds between the checkpoints of a training job that asks for them; 0 means after every "
        "round.",
    )
    max_runtime_seconds: int | None = _setting(
        "BYOA_MAX_RUNTIME_SECONDS",
        _integer(1, 28 * 86_400),
        None,
        "MaxRuntimeInSeconds of the training job, which the platform does not pass on: a "
        "checkpoint is written shortly before.",
    )
    is_multi_model: bool = _setting(
        "SAGEMAKER_MULTI_MODEL",
        _FLAG,
        False,
        "Set by the platform on multi-model endpoints: `/models` loads and unloads models.",
    )
    model_roots: tuple[Path, ...] = _setting(
        "BYOA_MODEL_ROOTS",
        _DIRECTORIES,
        (),
        "Directories below which the `url` of a model must be; a url outside is refused as path "
        "traversal. By default `models`, the platform's own, and `model` in the base directory.",
    )
    model_memory_bytes: int | None = _setting(
        "BYOA_MODEL_MEMORY_MB",
        _mebibytes(1, 2**24),
        None,
        "Memory for the models of all workers together; by default 80 % of the cgroup's limit "
        "beyond the server itself.",
    )
    on_full: str = _setting(
        "BYOA_ON_FULL",
        _one_of("evict", "refuse"),
        "evict",
        "Policy when a model no longer fits: `evict` unloads the least recently used model until "
        "it is invoked again; `refuse` answers 507 and leaves the choice to the platform.",
    )
    pinned_models: tuple[str, ...] = _setting(
        "BYOA_PINNED_MODELS",
        _PATTERNS,
        (),
        "Models that are never evicted: their names, or patterns of them.",
    )
    multi_model_engine: str = _setting(
        "BYOA_MULTI_MODEL_ENGINE",
        _one_of("gunicorn", "mms"),
        "gunicorn",
        "Server of many models: `gunicorn`, many models in each process, or `mms`, "
        "multi-model-server, a process for each model.",
    )
    algorithm: str = _setting(
        "BYOA_ALGORITHM",
        _TEXT,
        "xgboost",
        "Algorithm of a training job without the hyperparameter `algorithm`.",
    )
    hosts_port: int = _setting(
        "BYOA_HOSTS_PORT",
        _integer(1, 65535),
        9099,
        "TCP port of the coordinator, the first of several training hosts; the operating system "
        "chooses further ports.",
    )
    hosts_timeout_seconds: int = _setting(
        "BYOA_HOSTS_TIMEOUT",
        _integer(1, 86_400),
        900,
        "Time limit in seconds for the hosts of a training job to find each other.",
    )

    def __post_init__(self) -> None:
        if not self.model_roots:
            default = (self.base_dir / "models", self.base_dir / "model")
            object.__setattr__(self, "model_roots", default)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings.

        Raises:
            SettingsError: naming the variable, its value and what is accepted.
        """
        values = {}
        for setting in fields(cls):
            variable, parser = setting.metadata["variable"], setting.metadata["parser"]
            text = environ.get(variable, "")
            if text.strip():
                try:
                    values[setting.name] = parser.parse(text)
                except (ValueError, KeyError) as error:
                    raise SettingsError(variable, text, parser.accepted) from error
        return cls(**values)


def base_dir(environ: Mapping[str, str]) -> Path:
    """Return the base directory, also if another setting is refused."""
    variable = "SAGEMAKER_BASE_DIR"
    return Settings.from_env({variable: environ.get(variable, "")}).base_dir
