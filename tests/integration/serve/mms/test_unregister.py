"""Unregistering after a refused load, against a fake of multi-model-server's API."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tests.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).parents[4]

# A process of its own: it ends. Like a worker it then hangs, opening a pipe that nobody reads.
WORKER = """
import sys, time
from serve.mms import unregister
unregister.when_refused(sys.argv[1], int(sys.argv[2]))
time.sleep(60)
"""


class Api(BaseHTTPRequestHandler):
    """Answers each GET with the next item of `described`, and records requests."""

    described: ClassVar[list[dict[str, int] | None]]
    asked: ClassVar[list[tuple[str, str]]]

    def do_GET(self) -> None:
        self._answer(self.described.pop(0) if len(self.described) > 1 else self.described[0])

    def do_DELETE(self) -> None:
        self._answer({})

    def _answer(self, content: dict[str, int] | None) -> None:
        self.asked.append((self.command, self.path))
        body = json.dumps(content).encode()
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Be silent."""


@pytest.fixture
def api() -> Iterator[tuple[type[Api], int]]:
    Api.described, Api.asked = [], []
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Api, server.server_port
        server.shutdown()


def _run_worker(name: str, port: int) -> int:
    return subprocess.run(
        [sys.executable, "-c", WORKER, name, str(port)],
        cwd=ROOT,
        check=False,
        timeout=PATIENCE_SECONDS,
    ).returncode


def test_model_is_unregistered_once_the_refusal_is_through(api: tuple[type[Api], int]) -> None:
    """Waits until the load has ended, then unregisters (C-081, C-082)."""
    fake, port = api
    fake.described = [{"minWorkers": 1}, {"minWorkers": 1}, {"minWorkers": 0}]

    assert _run_worker("a b/é", port) == 1

    route = "/models/a%20b%2F%C3%A9"
    assert fake.asked == [("GET", route)] * 3 + [("DELETE", route)]


def test_model_that_is_gone_and_comes_back_is_unregistered(api: tuple[type[Api], int]) -> None:
    """Goes on after a 404, since the name comes back."""
    fake, port = api
    fake.described = [None, None, {"minWorkers": 0}]

    assert _run_worker("m", port) == 1

    assert fake.asked[-2:] == [("GET", "/models/m"), ("DELETE", "/models/m")]


def test_model_that_stays_away_is_left_alone(api: tuple[type[Api], int]) -> None:
    """Ends the process when the model stays away."""
    fake, port = api
    fake.described = [None]

    assert _run_worker("m", port) == 1

    assert set(fake.asked) == {("GET", "/models/m")}


def test_worker_ends_when_nobody_answers() -> None:
    """Ends the process when the server is gone."""
    assert _run_worker("m", 1) == 1
