"""Bursts against a server that refuses every third request."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.harness.formats import FORMATS
from benchmarks.serving import bursts


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    numbers = count(1)

    def do_GET(self) -> None:
        self._answer(200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(503 if next(self.numbers) % 3 == 0 else 200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"0.5")

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_burst_counts_answers_and_pings(tmp_path: Path) -> None:
    """Refused clients come again later, all others at once."""
    questions: Any = SimpleNamespace(body=lambda format_, n_rows: b"1,2\n" * n_rows)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        server: Any = SimpleNamespace(
            url=f"http://127.0.0.1:{http_server.server_port}",
            server=SimpleNamespace(format=FORMATS["csv"], route="/invocations"),
            cpu_seconds=lambda: 0.0,
        )
        burst = bursts.run(server, questions, 4, seconds=2)
        http_server.shutdown()

    assert set(burst.answers) == {"200", "503"}
    assert burst.answers["503"] >= 4
    assert min(burst.pings) > 0
    bursts.write([burst], tmp_path)
    assert "| 4 |" in (tmp_path / "bursts.md").read_text()
