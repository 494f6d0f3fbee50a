"""Normalization of request targets: the forms of a path that clients send."""

import re
from urllib.parse import unquote_to_bytes

from serve.http.asgi import Scope

# RFC 9112, section 3.2.2: a server must accept the absolute form. Schemes are case-insensitive.
_BEGINNING = re.compile(rb"(?:https?://[^/]*)?/*", re.IGNORECASE)


def normalized(scope: Scope) -> Scope:
    """Return the scope with a path that begins with one slash, without scheme and host.

    Clients that join URLs send several slashes. Slashes further on belong to a model's name.

    HTTP://host:8080//invocations   ->   /invocations
    /models//name/invoke            ->   the same
    """
    raw_path: bytes = scope["raw_path"]
    if not raw_path.startswith(b"/") and b"://" not in raw_path:
        return scope  # `*`, or the host of a CONNECT
    raw_path = b"/" + _BEGINNING.sub(b"", raw_path, count=1)
    path = unquote_to_bytes(raw_path).decode("utf-8", errors="replace")
    return {**scope, "path": path, "raw_path": raw_path}
