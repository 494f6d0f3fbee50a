"""Names of models: opaque text, never a path of the file system, percent-encoded in a URL.

POST /models/eu%2Fcustomer%207/invoke   ->   eu/customer 7
"""

import base64
import binascii
from urllib.parse import unquote_to_bytes

from container.errors import InvalidRequestError

MAX_BYTES = 1024
_PREFIX = b"/models/"
_INVOKE = b"/invoke"


def check(name: object) -> str:
    """Return `name` if it is a valid model name.

    Raises:
        InvalidRequestError: it is not text, empty, too long, has control characters, or is `.` or
            `..`, which HTTP clients remove from paths.
    """
    if not isinstance(name, str) or not name:
        raise InvalidRequestError("Parameter model_name is required.")
    try:
        n_bytes = len(name.encode())
    except UnicodeEncodeError as error:  # a lone surrogate
        raise InvalidRequestError("model_name is not Unicode text") from error
    if n_bytes > MAX_BYTES:
        raise InvalidRequestError(
            f"model_name has {n_bytes} bytes; at most {MAX_BYTES} are accepted"
        )
    if name in (".", "..") or any(
        ord(character) < 32 or ord(character) == 127 for character in name
    ):
        raise InvalidRequestError(
            "model_name is '.' or '..', or has control characters; use any other text"
        )
    return name


def in_path(raw_path: bytes) -> str | None:
    """Return the model's name in `/models/NAME`; None for any other path."""
    if not raw_path.startswith(_PREFIX):
        return None
    encoded = raw_path[len(_PREFIX) :]
    return None if b"/" in encoded else _decoded(encoded)


def in_invoke_path(raw_path: bytes) -> str | None:
    """Return the model's name in `/models/NAME/invoke`; None for any other path."""
    if not raw_path.startswith(_PREFIX) or not raw_path.endswith(_INVOKE):
        return None
    encoded = raw_path[len(_PREFIX) : -len(_INVOKE)]
    return None if b"/" in encoded else _decoded(encoded)


def page_token(last: str) -> str:
    """Return the token by which a client asks for the names after `last`."""
    return base64.urlsafe_b64encode(last.encode()).rstrip(b"=").decode()


def after(token: str) -> str:
    """Return the name that a token of `page_token` stands for.

    Raises:
        InvalidRequestError: the token is not one of `page_token`.
    """
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(
            "next_page_token is not a nextPageToken of GET /models; send one unchanged"
        ) from error


def _decoded(encoded: bytes) -> str | None:
    """Decode a name; None where no model can have it."""
    name = unquote_to_bytes(encoded) if b"%" in encoded else encoded
    try:
        return name.decode() or None
    except UnicodeDecodeError:
        return None
