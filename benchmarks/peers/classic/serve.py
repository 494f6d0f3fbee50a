"""The classic sample: starts nginx and gunicorn, and ends when one of them does.

Usage: serve.py PORT DIRECTORY
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def start_nginx(port: str, directory: str) -> "subprocess.Popen[bytes]":
    """Start nginx with the configuration beside this file, its placeholders filled in."""
    text = (HERE / "nginx.conf").read_text()
    file = Path(directory, "nginx.conf")
    file.write_text(text.replace("@PORT@", port).replace("@DIRECTORY@", directory))
    return subprocess.Popen(["nginx", "-e", "stderr", "-p", directory, "-c", str(file)])


def start_gunicorn(directory: str) -> "subprocess.Popen[bytes]":
    """Start gunicorn behind it."""
    options = {
        "bind": f"unix:{directory}/gunicorn.sock",
        "chdir": str(HERE),
        "timeout": "60",
        "worker-class": "gevent",
        "workers": os.environ["MODEL_SERVER_WORKERS"],
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return subprocess.Popen([sys.executable, "-m", "gunicorn", *words, "predictor:app"])


def main(port: str, directory: str) -> None:
    """Start both, and stop the other when one ends or SIGTERM comes."""
    processes = [start_nginx(port, directory), start_gunicorn(directory)]

    def stop(*_: object) -> None:
        for process in processes:
            process.terminate()

    signal.signal(signal.SIGTERM, stop)
    os.wait()
    stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
