"""Send one request to a serving container, with nothing added that the caller did not ask for."""

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from urllib.parse import urlsplit

PING_TIMEOUT_SECONDS = 2.0  # the platform's own, developer guide "Health Checks"
INVOCATION_TIMEOUT_SECONDS = 60.0  # the platform's own for real-time endpoints


@dataclass(frozen=True, slots=True)
class Response:
    """A whole reply; names of ``headers`` are looked up without regard to case."""

    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


def ping(url: str, *, timeout_seconds: float = PING_TIMEOUT_SECONDS) -> Response:
    """Ask ``GET /ping``.

    Raises:
        OSError: nobody listens, the connection broke or nothing came in time.
        http.client.HTTPException: what came is not HTTP.
    """
    return send(url, "GET", "/ping", timeout_seconds=timeout_seconds)


def invoke(
    url: str,
    body: bytes,
    *,
    content_type: str | None = "text/csv",
    accept: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float = INVOCATION_TIMEOUT_SECONDS,
) -> Response:
    """Send ``POST /invocations``; a status of 400 or more is a reply, not an exception.

    Args:
        content_type, accept: ``None`` leaves the header out.
    Raises:
        OSError, http.client.HTTPException: no reply, as for :func:`ping`.
    """
    all_headers = dict(headers or {})
    if content_type is not None:
        all_headers["Content-Type"] = content_type
    if accept is not None:
        all_headers["Accept"] = accept
    return send(
        url, "POST", "/invocations", body, headers=all_headers, timeout_seconds=timeout_seconds
    )


def send(
    url: str,
    method: str,
    route: str,
    body: bytes | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float = INVOCATION_TIMEOUT_SECONDS,
) -> Response:
    """Send one request on a connection of its own to ``url``, e.g. ``http://127.0.0.1:8080``.

    Args:
        timeout_seconds: For the connection and for each read, not for the whole reply.
    """
    address = urlsplit(url)
    if address.scheme != "http" or address.hostname is None:
        raise ValueError(f"url {url!r}: a container speaks plain HTTP; give http://HOST:PORT")
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=timeout_seconds)
    try:
        # Not request(): it would add Accept-Encoding, which the platform is not known to send.
        connection.putrequest(method, route, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        reply = connection.getresponse()
        return Response(reply.status, reply.headers, reply.read())
    finally:
        connection.close()
