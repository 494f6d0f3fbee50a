"""Plays the program of an image: ``train`` or ``serve`` in the manner that FAKE names.

The tests start it as a process and mount it into a container, so it imports nothing of ours.
"""

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn

ROOT = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
MANNER = os.environ.get("FAKE", "works")


def save_model() -> None:
    (ROOT / "model" / "model.json").write_text(json.dumps(dict(os.environ)))


def train() -> None:
    print("[0]\ttrain-rmse:1.5", flush=True)
    print("a warning", file=sys.stderr, flush=True)
    if MANNER == "fails":
        (ROOT / "output" / "failure").write_text("because of the channel")
        sys.exit(3)
    if MANNER in {"saves on SIGTERM", "ignores SIGTERM"}:
        wait_for_sigterm()
    save_model()


def wait_for_sigterm() -> None:
    received = []
    signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    print("waiting", flush=True)
    while not received or MANNER == "ignores SIGTERM":
        time.sleep(0.02)
    print("got SIGTERM", flush=True)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.reply(503 if MANNER == "is never ready" else 200, b"")

    def do_POST(self) -> None:
        self.reply(200, self.rfile.read(int(self.headers["Content-Length"])).upper())

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingMixIn, TCPServer):  # HTTPServer would look up the name of the host
    allow_reuse_address = True
    daemon_threads = True


def serve() -> None:
    if MANNER == "crashes":
        print("\n".join(f"line {number}" for number in range(1, 61)))
        sys.exit(7)
    if MANNER == "writes the model":
        save_model()
    if MANNER == "has a worker" and os.fork() == 0:
        time.sleep(3600)
    if MANNER == "ignores SIGTERM":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    address = ("", int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080")))
    with Server(address, Handler) as server:
        print(f"listening on port {address[1]}", flush=True)
        try:
            server.serve_forever(poll_interval=0.05)
        except KeyboardInterrupt:
            print("drained", flush=True)


# As a process: fake_program.py VERB. In a container it is mounted under the name of the verb.
verb = [Path(sys.argv[0]).name, *sys.argv[1:]][-1]
if verb not in {"train", "serve"}:
    sys.exit(f"{verb!r} is neither train nor serve")
{"train": train, "serve": serve}[verb]()
