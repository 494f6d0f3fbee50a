"""The HTTP status of every error, the only such table (`tests/architecture` keeps it complete)."""

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
    errors.OverloadedError: 503,
    errors.InvocationTimeoutError: 503,
    # The families, for what reaches a client only if something is badly wrong.
    errors.UserError: 400,
    errors.AlgorithmError: 500,
    errors.PlatformError: 500,
    errors.ContainerError: 500,
}


def status_of(error: ContainerError) -> int:
    """The status of the error's own class, or of the nearest class above it."""
    return next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
