"""Ask a server for predictions on labelled rows, inside its container; fail unless they are right.

`scripts/smoke_test.sh` runs this with the image's own Python and the rows on standard input: no
port has to be published, and the host needs no client.
"""

import sys
import time
from http.client import HTTPConnection, HTTPException

HOST, PORT = "127.0.0.1", 8080
START_TIMEOUT_SECONDS = 60.0
MIN_RIGHT = 0.95  # of the rows that the model was trained on; a constant answer gets 0.5


def request(method: str, path: str, body: str = "", timeout_seconds: float = 60) -> tuple[int, str]:
    """Return status and body of one request on a connection of its own."""
    connection = HTTPConnection(HOST, PORT, timeout=timeout_seconds)
    try:
        connection.request(method, path, body, {"Content-Type": "text/csv"})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def wait_until_ready() -> None:
    """Poll `/ping` as the platform does, until it answers 200."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    answer: object = "nothing"
    while time.monotonic() < deadline:
        try:
            answer, _ = request("GET", "/ping", timeout_seconds=2)
        except (OSError, HTTPException) as error:
            answer = error
        if answer == 200:
            return
        time.sleep(0.1)
    sys.exit(f"/ping is not 200 after {START_TIMEOUT_SECONDS:g} s but: {answer}")


def main() -> None:
    """Wait for the server, post every row without its label, and count the right answers."""
    records = [line.strip().split(",", 1) for line in sys.stdin]
    wait_until_ready()
    status, body = request("POST", "/invocations", "".join(f"{row}\n" for _, row in records))
    if status != 200:
        sys.exit(f"/invocations answered {status}: {body}")
    predictions = [float(line) for line in body.split()]
    if len(predictions) != len(records):
        sys.exit(f"{len(predictions)} predictions for {len(records)} rows")
    right = sum(
        (prediction > 0.5) == (label == "1")
        for prediction, (label, _) in zip(predictions, records, strict=True)
    )
    print(f"{right} of {len(records)} predictions are right")
    if right < MIN_RIGHT * len(records):
        sys.exit(1)


if __name__ == "__main__":
    main()
