"""Parquet bodies, which are decoded in processes of their own: what happens when those die."""

import io
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from local_test.backends import Backend
from local_test.invoke import Response, invoke
from local_test.programs import RunningServer
from tests.blackbox.conftest import Trained
from tests.blackbox.processes import kill, wait_for_workers, workers_of
from tests.waiting import PATIENCE_SECONDS, wait_for

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

PARQUET = {"content_type": "application/x-parquet"}
CORPUS = Path(__file__).parents[1] / "corpus/parquet/invalid"
BROKEN = [
    "required-column-with-histograms-of-an-optional-one",
    "row-group-with-fewer-columns-than-the-schema",
    "three-million-records-in-a-kilobyte",
]


@pytest.fixture(scope="module")
def one_worker(backend: Backend, trained: Trained) -> Iterator[RunningServer]:
    environment = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
    with backend.start_server(trained.ml, environment=environment) as running:
        yield running


def as_parquet(rows: np.ndarray) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({f"c{i}": column for i, column in enumerate(rows.T)}), stream)
    return stream.getvalue()


def ask(server: RunningServer, rows: np.ndarray) -> Response:
    return invoke(server.url, as_parquet(rows), timeout_seconds=PATIENCE_SECONDS, **PARQUET)


def decoders_of(server: RunningServer, workers: list[int]) -> list[int]:
    return [pid for pid in server.process_ids() if pid not in (server.process_id, *workers)]


def gone(pid: int) -> bool:
    """Return True if the process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return True


def test_broken_parquet_costs_its_own_request(
    one_worker: RunningServer, features: np.ndarray
) -> None:
    """Files that crash pyarrow or break its metadata are a 400 each; the worker lives (C-057)."""
    workers = wait_for_workers(one_worker, 1)
    for name in BROKEN:
        body = (CORPUS / f"{name}.body").read_bytes()

        response = invoke(one_worker.url, body, timeout_seconds=PATIENCE_SECONDS, **PARQUET)

        assert (response.status, name) == (400, name)
        assert b"malformed_payload" in response.body
    assert ask(one_worker, features).status == 200
    assert workers_of(one_worker) == workers


@pytest.mark.canary
def test_predictions_are_those_of_other_formats(
    one_worker: RunningServer, trained: Trained, features: np.ndarray
) -> None:
    """Decodes in another process, every record in order (C-072)."""
    response = ask(one_worker, features)

    found = np.array(response.body.split(), dtype=np.float32)
    np.testing.assert_allclose(found, trained.expected(features), rtol=1e-6)


@pytest.mark.parametrize("victim", ["decoder", "worker"])
def test_death_of_either_process_is_mended(
    one_worker: RunningServer, features: np.ndarray, victim: str
) -> None:
    """A decoder is replaced by its worker, and does not outlive it."""
    workers = wait_for_workers(one_worker, 1)
    assert ask(one_worker, features[:3]).status == 200
    (decoder,) = decoders_of(one_worker, workers)

    kill(one_worker, decoder if victim == "decoder" else workers[0], signal.SIGKILL)

    wait_for(lambda: gone(decoder))
    one_worker.wait_until_ready(PATIENCE_SECONDS)
    assert ask(one_worker, features[:3]).status == 200
    if victim == "decoder":
        assert workers_of(one_worker) == workers


def test_nothing_is_left_when_the_server_stops(
    backend: Backend, trained: Trained, features: np.ndarray
) -> None:
    """SIGTERM ends worker and decoder alike, with exit code 0 (C-062)."""
    with backend.start_server(trained.ml) as server:
        assert ask(server, features).status == 200
        processes = server.process_ids()
        assert server.stop().exit_code == 0

    assert len(processes) > 2
    for pid in processes:
        wait_for(lambda pid=pid: gone(pid))
