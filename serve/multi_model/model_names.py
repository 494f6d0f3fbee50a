"""The names of models: opaque to us, never a path, percent-encoded in one.

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
    """The name, if it is one.

    Raises:
        InvalidRequestError: it is not text, is empty, too long, holds control characters, or is a
            dot or two, which no client can send in a path.
    """
    if not isinstance(name, str) or not name:
        raise InvalidRequestError("Parameter model_name is required.")
    try:
        n_bytes = len(name.encode())
    except UnicodeEncodeError as error:  # a lone surrogate
        raise InvalidRequestError("model_name is not Unicode text") from error
    if n_bytes > MAX_BYTES:
        raise InvalidRequestError(f"model_name has {n_bytes} bytes; at most {MAX_BYTES} are taken")
    if name in (".", "..") or any(
        ord(character) < 32 or ord(character) == 127 for character in name
    ):
        raise InvalidRequestError("model_name is '.', '..' or holds control characters")
    return name


def in_path(raw_path: bytes) -> str | None:
    """The model's name in `/models/NAME`; None where the path is another one."""
    if not raw_path.startswith(_PREFIX):
        return None
    encoded = raw_path[len(_PREFIX) :]
    return None if b"/" in encoded else _decoded(encoded)


def in_invoke_path(raw_path: bytes) -> str | None:
    """The model's name in `/models/NAME/invoke`; None where the path is another one."""
    if not raw_path.startswith(_PREFIX) or not raw_path.endswith(_INVOKE):
        return None
    encoded = raw_path[len(_PREFIX) : -len(_INVOKE)]
    return None if b"/" in encoded else _decoded(encoded)


def page_token(last: str) -> str:
    """What a client sends to get the names after `last`."""
    return base64.urlsafe_b64encode(last.encode()).rstrip(b"=").decode()


def after(token: str) -> str:
    """The name that a token stands for.

    Raises:
        InvalidRequestError: it is none of ours.
    """
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError("next_page_token is not one that GET /models gave") from error


def _decoded(encoded: bytes) -> str | None:
    """None for what no model can be called."""
    name = unquote_to_bytes(encoded) if b"%" in encoded else encoded
    try:
        return name.decode() or None
    except UnicodeDecodeError:
        return None
