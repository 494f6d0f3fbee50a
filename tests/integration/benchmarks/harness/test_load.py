"""Arguments of wrk, and the parsing of its output."""

import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.harness import load
from benchmarks.harness.load import LoadError

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers 500 to every third request and remembers what it was sent."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, self.headers["Content-Type"], body))
        self.send_response(500 if len(self.seen) % 3 == 0 else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def recorder() -> Iterator[http.server.ThreadingHTTPServer]:
    Recorder.seen = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@needs_wrk
def test_run_posts_the_bodies_in_turn_and_counts_refusals(
    recorder: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    """wrk with our script: method, route, content type and bodies; 500 is an error."""
    bodies = [tmp_path / "a.csv", tmp_path / "b.csv"]
    bodies[0].write_bytes(b"1,2\n")
    bodies[1].write_bytes(b"3,4\n" * 5000)
    looks: list[int] = []

    result = load.run(
        f"http://127.0.0.1:{recorder.server_port}/invocations",
        "text/csv",
        bodies,
        connections=1,
        seconds=2,
        look=lambda: looks.append(1),
    )

    sent = {("/invocations", "text/csv", body.read_bytes()) for body in bodies}
    assert {*Recorder.seen[0::2]} | {*Recorder.seen[1::2]} == sent
    assert len({*Recorder.seen[0::2]}) == len({*Recorder.seen[1::2]}) == 1  # strictly in turn
    assert 0 <= len(Recorder.seen) - result.requests <= 1  # the last one may be under way
    assert result.errors.status == pytest.approx(result.requests / 3, abs=1)
    assert result.errors.total == result.errors.status
    assert 0 < result.p50_ms <= result.p99_ms
    assert looks


@needs_wrk
def test_run_against_nobody_is_an_error(tmp_path: Path) -> None:
    """A server that has died is not measured as a fast one."""
    body = tmp_path / "body"
    body.write_bytes(b"1")

    with pytest.raises(LoadError, match="Connection refused"):
        load.run("http://127.0.0.1:9/", "text/csv", [body], connections=1, seconds=1)
