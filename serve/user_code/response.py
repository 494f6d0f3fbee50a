"""Conversion of a user function's result or exception into the answer to an invocation."""

from collections.abc import Generator, Iterator
from typing import Any

from container import content_types
from container.errors import UserCodeError
from serve.invocation import Answer
from serve.user_code import default_codecs
from serve.user_code.context import RequestProcessor, checked_header

STATUSES_WITHOUT_BODY = (204, 205, 304)
"""RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5."""
_UNSUPPORTED_FORMAT = "UnsupportedFormatError"
_ACCEPTED = (
    "return bytes, str, a generator of them, or a dict, list or number (sent as JSON), alone or as "
    "(body, content_type)"
)


def answer_of(result: Any, request: RequestProcessor, media_type: str) -> Answer:
    """Convert the result of `output_fn` or `transform_fn` into an answer.

    The first piece of a stream is made here: an error up to there is an ordinary one (C-066), and
    headers that the generator sets up to there are sent.

    Args:
        result: A body, or a body and its media type.
        request: Has the status and headers that the user's code set.
        media_type: Used where the user's code names none.
    Raises:
        TypeError, ValueError: the result is not a body, the status allows none, or the media type
            cannot be sent.
    """
    returned_type = ""
    if isinstance(result, tuple):
        if len(result) != 2:
            raise TypeError(f"a tuple of {len(result)} was returned; {_ACCEPTED}")
        result, returned_type = result[0], checked_header("content-type", result[1])
    body: bytes | Generator[bytes, None, None]
    if hasattr(result, "__next__"):
        body = _begun(_pieces(result))
    elif isinstance(result, dict | list | int | float):
        body, media_type = default_codecs.to_json(result), content_types.JSON
    elif result is None and request.status in STATUSES_WITHOUT_BODY:
        body = b""
    else:
        body = _bytes(result)
    headers = dict(request.response_headers)
    chosen_type = headers.pop("content-type", "")
    media_type = returned_type or chosen_type or media_type
    if request.status in STATUSES_WITHOUT_BODY:
        _refuse_body(body, request.status)
        media_type = ""
    return Answer(body, media_type, status=request.status, headers=tuple(headers.items()))


def translation(error: BaseException) -> Exception | None:
    """Return the exception to raise in place of one of the user's code; None to raise it itself.

    An exception with the members of the toolkit's `BaseInferenceToolkitError` becomes an error with
    its status and message, an `UnsupportedFormatError` one with status 415. An exception that would
    end a thread (`SystemExit`) or a generator becomes a `RuntimeError`, and ends the invocation.
    """
    if isinstance(error, StopIteration) or not isinstance(error, Exception):
        return _harmless(error)
    status = getattr(error, "status_code", None)
    message = getattr(error, "message", None)
    if message is None or not isinstance(status, int) or not 400 <= status <= 599:
        return unsupported_format(error, 415)
    return _refusal(int(status), str(message))


def unsupported_format(error: BaseException, status: int) -> UserCodeError | None:
    """Return the error for an `UnsupportedFormatError`, None for any other exception.

    Several of AWS's packages have a class of that name, without a status; none need be installed.
    """
    if not any(kind.__name__ == _UNSUPPORTED_FORMAT for kind in type(error).__mro__):
        return None
    text = " ".join(str(getattr(error, "message", None) or error).split())
    return _refusal(status, text or "the format is not supported")


def _refusal(status: int, message: str) -> UserCodeError:
    # JSON has no lone surrogates.
    return UserCodeError(status, message.encode("utf-8", "replace").decode())


def _harmless(error: BaseException) -> RuntimeError:
    return RuntimeError(f"the user's code raised {error!r}")


def _refuse_body(body: bytes | Generator[bytes, None, None], status: int) -> None:
    """Refuse a body with this status: the client would read it as the start of the next answer."""
    if not isinstance(body, bytes):
        body.close()
        raise TypeError(f"a stream was returned with status {status}, which has no body")
    if body:
        raise ValueError(
            f"{len(body)} bytes were returned with status {status}, which has no body; return None,"
            " or set another status"
        )


def _pieces(iterator: Iterator[Any]) -> Generator[bytes, None, None]:
    """Yield the stream as bytes; closing this generator closes the user's."""
    try:
        for piece in iterator:
            yield _bytes(piece)
    except (Exception, GeneratorExit):
        raise
    except BaseException as error:
        raise _harmless(error) from error
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def _begun(pieces: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    first = next(pieces, b"")

    def all_pieces() -> Generator[bytes, None, None]:
        yield first
        yield from pieces

    return all_pieces()


def _bytes(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    if isinstance(body, str):
        return body.encode()
    raise TypeError(f"a {type(body).__name__} was returned as body; {_ACCEPTED}")
