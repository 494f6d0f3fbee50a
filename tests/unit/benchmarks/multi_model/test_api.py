"""The client of the `/models` API against servers that do not behave."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from benchmarks.harness.running import ServerError
from benchmarks.multi_model.api import Api
from tests.waiting import PATIENCE_SECONDS

REPLIES = [
    b"",
    b"220 mail.example.com ESMTP\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
]


@pytest.fixture
def url() -> Iterator[str]:
    """A server that hangs up on the first request, speaks no HTTP to the second, and then ends."""

    def serve() -> None:
        for reply in REPLIES:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                if reply is REPLIES[-1]:
                    listener.close()
                connection.sendall(reply)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_SECONDS)  # else a failing test would wait for ever
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_ask_without_an_answer_is_a_server_error(url: str) -> None:
    """Which ends one part of the run and not all of it; the client can go on."""
    with closing(Api(url)) as api:
        with pytest.raises(ServerError, match=r"GET /models/a: no answer: RemoteDisconnected"):
            api.ask("GET", "/models/a")
        with pytest.raises(ServerError, match=r"GET /models/a: no answer: BadStatusLine"):
            api.ask("GET", "/models/a")
        assert api.ask("GET", "/models/a").body == b"ok"
        api.close()
        with pytest.raises(ServerError, match=r"GET /models/a: no answer: ConnectionRefusedError"):
            api.ask("GET", "/models/a")
