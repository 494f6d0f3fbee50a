"""This server in multi-model mode, with either engine, while it is measured."""

import contextlib
import http.client
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.harness.running import (
    START_TIMEOUT_SECONDS,
    Launched,
    Running,
    ServerError,
    launched,
)
from benchmarks.harness.servers import all_servers
from benchmarks.multi_model.api import Api
from local_test import invoke

# The one that the harness itself runs in: ours runs in the product's own environment.
ENVIRONMENT_DIR = Path(sys.prefix)
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class MultiModel:
    """A server that answers, and a client of it."""

    running: Running
    api: Api

    def pss_bytes(self) -> int:
        return self.running.footprint().pss


@contextlib.contextmanager
def started(
    root: Path, engine: str, *, route: str = "/ping", **variables: str
) -> Iterator[MultiModel]:
    """Start the server on the models below ``root/models``, none of them loaded.

    Args:
        route: Where ``Running`` is asked under load.
        variables: More of the environment.
    Raises:
        ServerError: it ended, or did not answer in time.
    """
    ours = all_servers()["ours"]
    many = {"SAGEMAKER_MULTI_MODEL": "true", "BYOA_MULTI_MODEL_ENGINE": engine}
    server = replace(ours, route=route, variables={**ours.variables, **many, **variables})
    with launched(server, environment_dir=ENVIRONMENT_DIR, model_dir=root) as found:
        _wait_until_ready(found)
        start_seconds = time.monotonic() - found.started_at
        running = Running(server, found.process, found.url, start_seconds)
        with contextlib.closing(Api(found.url)) as api:
            yield MultiModel(running, api)


def _wait_until_ready(found: Launched) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while found.program.is_running() and time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if invoke.ping(found.url).status == 200:
                return
        time.sleep(_POLL_SECONDS)
    raise ServerError(f"it did not start; its output ends:\n{found.program.output()[-2000:]}")
