"""Tree of all errors that the product raises on purpose.

    ContainerError
    ├─ UserError                        the job owner, the client or the operator can correct it
    │  ├─ SettingsError                 an environment variable
    │  ├─ JobConfigError                a file under /opt/ml/input/config
    │  ├─ HyperparameterError           a key of hyperparameters.json
    │  ├─ ChannelError                  a channel's presence, format or content
    │  ├─ ScriptError                   the user's own training script ended with an error
    │  ├─ InvalidRequestError           a request in another form than its route takes
    │  ├─ UnsupportedContentTypeError
    │  ├─ UnsupportedContentEncodingError
    │  ├─ UnsupportedAcceptError
    │  ├─ MalformedPayloadError         with line and column where known
    │  ├─ SlowRequestError              a body that does not arrive
    │  ├─ PayloadTooLargeError
    │  ├─ ModelNotFoundError            no model of that name, or no directory for one
    │  └─ ModelAlreadyLoadedError
    ├─ AlgorithmError                   the algorithm or the model cannot do what was asked
    │  ├─ PackageMissingError            the algorithm needs a package that this image lacks
    │  ├─ TrainingError
    │  ├─ ModelLoadError
    │  ├─ PredictionError
    │  └─ ModelCrashedError              the process of a model with code ended
    ├─ UserCodeError                    the user's own code refused an invocation, with its status
    ├─ OverloadedError                  the bounded queue is full; expected under load
    ├─ InvocationTimeoutError           an invocation took longer than the setting allows
    ├─ OutOfMemoryError                 a model does not fit, or an invocation needs too much
    └─ PlatformError                    /opt/ml is missing, a disk is full, a port is taken
       └─ HostError                     another host of the job failed or is gone

A message names the problem, the given value, the accepted ones and the remedy. Clients may see it:
it has no payload, no path of the host and no stack trace. `details` are facts for the log. HTTP
statuses are in `serve/http/statuses.py`, exit codes in `train/job.py`.
"""

from collections.abc import Sequence

_MAX_SHOWN = 100


def _short(given: str) -> str:
    """Quote a header's value, cut to a bounded length: a client may send kilobytes."""
    return repr(given if len(given) <= _MAX_SHOWN else f"{given[:_MAX_SHOWN]}…")


def counted(n: int, noun: str) -> str:
    """Return a number with its noun for a message, e.g. `1 column` or `2 columns`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


class ContainerError(Exception):
    """Root of the tree: a message for people, a stable `code` for programs, facts for the log."""

    code = "container_error"

    def __init__(self, message: str, **details: object) -> None:
        # File names and messages of user code may hold lone surrogates, which cannot be encoded.
        self.message = message.encode("utf-8", "backslashreplace").decode()
        self.details = details
        super().__init__(self.message)


class UserError(ContainerError):
    """The client, the owner of the job or the operator can correct it."""

    code = "user_error"


class SettingsError(UserError):
    """An environment variable holds a value that is not accepted."""

    code = "invalid_setting"

    def __init__(self, variable: str, given: str, accepted: str) -> None:
        super().__init__(
            f"environment variable {variable}={given!r} is not accepted; use {accepted}",
            variable=variable,
            given=given,
        )


class JobConfigError(UserError):
    """A file under `/opt/ml/input/config` has another form than the platform's."""

    code = "invalid_job_config"


class HyperparameterError(UserError):
    """A hyperparameter is missing, unknown or not accepted."""

    code = "invalid_hyperparameter"

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"hyperparameter {name!r}: {problem}", name=name)


class ChannelError(UserError):
    """A channel is missing, empty, or holds data that cannot be read."""

    code = "invalid_channel"


class ScriptError(UserError):
    """The user's own training script ended with an error.

    `exit_code` is its own; `stderr` has the last lines of its standard error.
    """

    code = "script_failed"

    def __init__(self, message: str, *, exit_code: int, stderr: Sequence[str]) -> None:
        super().__init__(message, exit_code=exit_code)
        self.exit_code = exit_code
        self.stderr = stderr


class InvalidRequestError(UserError):
    """The request does not have the form that its route takes."""

    code = "invalid_request"


class UnsupportedContentTypeError(UserError):
    """No codec reads the request's content type."""

    code = "unsupported_content_type"

    def __init__(self, given: str, accepted: Sequence[str]) -> None:
        super().__init__(
            f"content type {_short(given)} is not supported; send one of: {', '.join(accepted)}",
            given=given,
        )


class UnsupportedContentEncodingError(UserError):
    """The request body is compressed in a way that is not read."""

    code = "unsupported_content_encoding"

    def __init__(self, given: str) -> None:
        super().__init__(
            f"content encoding {_short(given)} is not supported; send gzip, or the body as it is",
            given=given,
        )


class UnsupportedAcceptError(UserError):
    """No codec writes any of the media types that the client accepts."""

    code = "unsupported_accept"

    def __init__(self, given: str, offered: Sequence[str]) -> None:
        super().__init__(
            f"accept {_short(given)} cannot be satisfied; ask for one of: {', '.join(offered)}",
            given=given,
        )


class MalformedPayloadError(UserError):
    """A payload does not follow its content type.

    `line`, `record` and `column` count from 1.
    """

    code = "malformed_payload"

    def __init__(
        self,
        problem: str,
        *,
        line: int | None = None,
        record: int | None = None,
        column: int | None = None,
    ) -> None:
        places = (("line", line), ("record", record), ("column", column))
        where = ", ".join(f"{name} {number}" for name, number in places if number is not None)
        super().__init__(f"{where}: {problem}" if where else problem, line=line, column=column)
        self.problem = problem
        self.line = line
        self.record = record
        self.column = column


class SlowRequestError(UserError):
    """The client did not send its request in time."""

    code = "slow_request"

    def __init__(self, timeout_seconds: float, setting: str) -> None:
        super().__init__(
            f"the request did not arrive within {timeout_seconds:g} s, the limit set by {setting}"
        )


class PayloadTooLargeError(UserError):
    """The request body is larger than the limit in force."""

    code = "payload_too_large"

    def __init__(self, limit_bytes: int, setting: str) -> None:
        super().__init__(
            f"the request body is larger than {limit_bytes} bytes, the limit set by {setting}",
            limit_bytes=limit_bytes,
        )


class ModelNotFoundError(UserError):
    """There is no model of that name, or no directory to load it from."""

    code = "model_not_found"


class ModelAlreadyLoadedError(UserError):
    """A model of that name is loaded, or being loaded."""

    code = "model_already_loaded"


class AlgorithmError(ContainerError):
    """The algorithm or the model cannot do what was asked of it."""

    code = "algorithm_error"


class PackageMissingError(AlgorithmError):
    """A package that the algorithm needs is not in this image."""

    code = "package_missing"

    def __init__(self, package: str) -> None:
        super().__init__(
            f"the package {package!r} is not installed: the slim image has XGBoost only; use the "
            "full image, or an image FROM it with the package added",
            package=package,
        )


class TrainingError(AlgorithmError):
    """The framework refused to train."""

    code = "training_failed"


class ModelLoadError(AlgorithmError):
    """The model artifact is missing, broken or not usable by this image."""

    code = "model_load_failed"


class PredictionError(AlgorithmError):
    """The model failed on valid records."""

    code = "prediction_failed"


class ModelCrashedError(AlgorithmError):
    """The process of a model with code ended during an invocation."""

    code = "model_crashed"


class UserCodeError(ContainerError):
    """The user's own code refused an invocation and chose the status and the message."""

    code = "refused_by_user_code"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class OverloadedError(ContainerError):
    """The queue is full (backpressure); the same request may succeed a moment later."""

    code = "overloaded"

    def __init__(self, resource: str, limit: int, setting: str) -> None:
        super().__init__(
            f"the server is at its limit of {limit} {resource} ({setting}); try again",
            resource=resource,
            limit=limit,
        )


class InvocationTimeoutError(ContainerError):
    """An invocation took longer than the setting allows."""

    code = "invocation_timeout"

    def __init__(self, timeout_seconds: float, setting: str) -> None:
        super().__init__(
            f"the invocation took longer than {timeout_seconds:g} s, the limit set by {setting}"
        )


class OutOfMemoryError(ContainerError):
    """The granted memory does not suffice; the message has the numbers."""

    code = "out_of_memory"


class PlatformError(ContainerError):
    """A resource of the platform is missing or exhausted."""

    code = "platform_error"


class HostError(PlatformError):
    """Another host of the job failed or is gone."""

    code = "host_failed"
