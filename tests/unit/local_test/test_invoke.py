import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from local_test.invoke import invoke, ping


class EchoHandler(BaseHTTPRequestHandler):
    """Answers with the request line and headers; 418 to a teapot."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(418 if body == b"teapot" else 200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(f"{self.requestline}\n{self.headers}".encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), EchoHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_invoke_sends_the_given_headers(url: str) -> None:
    """Content type, accept and any other header arrive as they were given."""
    response = invoke(
        url, b"1,2", content_type="text/csv; a=b", accept="*/*", headers={"X-Own": "value"}
    )

    assert response.status == 200
    assert response.headers["content-type"] == "text/plain"
    assert response.text.startswith("POST /invocations HTTP/1.1\n")
    assert "Content-Type: text/csv; a=b\n" in response.text
    assert "Accept: */*\n" in response.text
    assert "X-Own: value\n" in response.text


def test_invoke_adds_no_header_of_its_own(url: str) -> None:
    """A client may leave the content type out, and then the container must not see one."""
    response = invoke(url, b"1,2", content_type=None)

    names = {line.partition(":")[0] for line in response.text.splitlines()[1:] if line}
    assert names == {"Host", "Content-Length"}


def test_error_status_is_a_reply(url: str) -> None:
    """The caller looks at the status; only a missing reply is an exception."""
    assert invoke(url, b"teapot").status == 418


def test_ping_of_nobody_raises_os_error() -> None:
    """A refused connection is not mistaken for an answer."""
    with pytest.raises(ConnectionRefusedError):
        ping("http://127.0.0.1:1")


def test_url_that_is_not_plain_http_is_refused() -> None:
    """A container speaks no TLS."""
    with pytest.raises(ValueError, match="give http://HOST:PORT"):
        ping("https://127.0.0.1:8080")
