"""The `/models` API of a server, asked on one connection, each answer with its time."""

import http.client
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from benchmarks.harness.running import NO_ANSWER, ServerError, no_answer
from benchmarks.multi_model.models import CSV, Models

TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; the time is that of the client, from the first byte sent to the last received."""

    status: int
    body: bytes
    seconds: float


class Api:
    """A client of one server; for one thread."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            address.hostname or "", address.port, timeout=TIMEOUT_SECONDS
        )

    def close(self) -> None:
        self._connection.close()

    def load(self, name: str, directory: Path) -> Answer:
        """`POST /models`."""
        body = json.dumps({"model_name": name, "url": str(directory)}).encode()
        return self.ask("POST", "/models", body, "application/json")

    def load_well(self, name: str, directory: Path) -> Answer:
        """`POST /models`, which must succeed.

        Raises:
            ServerError: it does not.
        """
        return _good(self.load(name, directory), f"load {name}")

    def unload(self, name: str) -> Answer:
        """`DELETE /models/<name>`, which must succeed."""
        return _good(self.ask("DELETE", f"/models/{quote(name)}"), f"unload {name}")

    def invoke(self, models: Models, name: str) -> Answer:
        """`POST /models/<name>/invoke`; the answer must be right.

        Raises:
            ServerError: it is not what XGBoost itself predicts.
        """
        route = f"/models/{quote(name)}/invoke"
        answer = _good(self.ask("POST", route, models.body, CSV.content_type), f"invoke {name}")
        if not models.is_right(name, answer.body):
            raise ServerError(f"{name} predicts {answer.body!r}, not {models.expected[name]}")
        return answer

    def page(self, token: str = "") -> Answer:
        """`GET /models`, from a token on."""
        return _good(self.ask("GET", f"/models?next_page_token={quote(token)}"), "list models")

    def describe(self, name: str) -> Any:
        """`GET /models/<name>` as JSON."""
        return json.loads(_good(self.ask("GET", f"/models/{quote(name)}"), f"get {name}").body)

    def metrics(self) -> dict[str, float]:
        """Every sample of `GET /metrics` by name and labels; empty where there is no such route."""
        answer = self.ask("GET", "/metrics")
        if answer.status == 404:
            return {}
        lines = _good(answer, "get metrics").body.decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def ask(
        self, method: str, route: str, body: bytes | None = None, content_type: str = ""
    ) -> Answer:
        """Send one request; a status of 400 or more is an answer.

        Raises:
            ServerError: nothing came back, as from a server that has ended.
        """
        headers = {"Content-Type": content_type, "Accept": content_type} if content_type else {}
        began = time.perf_counter()
        try:
            self._connection.request(method, route, body, headers)
            response = self._connection.getresponse()
            content = response.read()
        except NO_ANSWER as error:
            self._connection.close()  # or it would refuse the next request as out of turn
            raise ServerError(f"{method} {route}: {no_answer(error)}") from error
        return Answer(response.status, content, time.perf_counter() - began)


def _good(answer: Answer, what: str) -> Answer:
    if answer.status != 200:
        raise ServerError(f"{what}: status {answer.status}: {answer.body[:300]!r}")
    return answer
