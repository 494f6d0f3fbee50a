"""The HTTP status of every error; `tests/architecture` keeps the table complete.

User code may choose another status for the requests that it refuses (`errors.UserCodeError`).
"""

from container import errors
from container.errors import ContainerError

_STATUSES: dict[type[ContainerError], int] = {
    errors.InvalidRequestError: 400,
    errors.MalformedPayloadError: 400,
    errors.UnsupportedAcceptError: 406,
    errors.SlowRequestError: 408,
    errors.PayloadTooLargeError: 413,
    errors.UnsupportedContentTypeError: 415,
    errors.UnsupportedContentEncodingError: 415,
    errors.ModelNotFoundError: 404,
    errors.ModelAlreadyLoadedError: 409,
    errors.OutOfMemoryError: 507,
    errors.OverloadedError: 503,
    errors.InvocationTimeoutError: 503,
    errors.PredictionError: 500,
    errors.ModelCrashedError: 500,
    errors.UserCodeError: 500,  # overridden by the status of each error
    # Base classes: these reach a client only through a bug.
    errors.UserError: 400,
    errors.AlgorithmError: 500,
    errors.PlatformError: 500,
    errors.ContainerError: 500,
}


def status_of(error: ContainerError) -> int:
    """Return the error's own status, or else that of the nearest class in the table."""
    chosen: int | None = getattr(error, "status", None)
    return chosen or next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
