"""Multi-model endpoints from outside: what fits into memory, what is evicted, and what is 507."""

import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local_test.backends import DockerBackend
from tests.blackbox.multi_model.conftest import (
    Fleet,
    StartFleet,
    error_of,
    in_parallel,
    started,
    unload_all,
)
from tests.waiting import PATIENCE_SECONDS

ONE_WORKER = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
# Takes as many MiB as `size` says, beside 5 to 15 of its process, and answers once there is no file
# of the body's name.
HEAVY = """
    import os, time
    from pathlib import Path

    def model_fn(model_dir):
        return bytearray(int((Path(model_dir) / "size").read_text()) * 2**20)

    def input_fn(body, content_type):
        return body

    def predict_fn(hold, model):
        print(f"{len(model) >> 20} MiB wait for {hold}", flush=True)
        while os.path.exists(hold):
            time.sleep(0.01)
        return 0
"""


def write_heavy(fleet: Fleet, place: str, mebibytes: int) -> None:
    fleet.write(place, {"code/inference.py": HEAVY, "size": str(mebibytes)})


@pytest.fixture(scope="module")
def shared_full_fleet(start_fleet: StartFleet) -> Iterator[Fleet]:
    with start_fleet(BYOA_MODEL_MEMORY_MB="75", **ONE_WORKER) as fleet:
        yield fleet


@pytest.fixture
def full_fleet(shared_full_fleet: Fleet) -> Iterator[Fleet]:
    """A server of one worker with room for two or three models, left without any."""
    yield shared_full_fleet
    unload_all(shared_full_fleet)


def test_model_that_does_not_fit_is_507_with_the_numbers(start_fleet: StartFleet) -> None:
    """Loaded models go on answering, in the same processes (C-081)."""
    with start_fleet(BYOA_MODEL_MEMORY_MB="60") as fleet:
        fleet.write_constant("small", 1.0)
        write_heavy(fleet, "large", 40)
        fleet.load("small")
        before = fleet.server.process_ids()

        refused = fleet.load("large")

        assert error_of(refused) == (507, "InsufficientStorageException", "out_of_memory")
        message = json.loads(refused.body)["message"]
        assert re.search(r"takes (4[5-9]|5[0-5])\.\d MiB", message)
        assert "may take 30.0 MiB (BYOA_MODEL_MEMORY_MB)" in message
        assert fleet.names() == ["small"]
        assert float(fleet.invoke("small").body) == 1.0
        assert fleet.server.process_ids() == before


@pytest.mark.canary
def test_full_server_evicts_what_was_used_least_recently(full_fleet: Fleet) -> None:
    """An evicted model is still loaded as far as the contract goes, and comes back (C-081)."""
    fleet = full_fleet
    for name in ("a", "b", "c"):
        write_heavy(fleet, name, 20)
    fleet.load("a")
    fleet.load("b")
    fleet.invoke("a", b"0")  # now b is the least recent

    assert fleet.load("c").status == 200

    assert fleet.names() == ["a", "b", "c"]
    metrics = fleet.metrics()
    assert metrics["byoa_resident_models"] == 2
    assert metrics["LoadedModelCount"] == 3
    assert [hit(fleet, name) for name in ("a", "c", "b")] == [1, 1, 0]
    assert fleet.metrics()["byoa_resident_models"] == 2


def hit(fleet: Fleet, name: str) -> float:
    """Invoke and say whether the model was resident."""
    before = fleet.metrics()["ModelCacheHit_sum"]
    assert fleet.invoke(name, b"0").status == 200
    return fleet.metrics()["ModelCacheHit_sum"] - before


@pytest.mark.docker_cases(0)
def test_full_server_may_refuse_instead(start_fleet: StartFleet) -> None:
    """BYOA_ON_FULL=refuse leaves the choice to the platform, which unloads one (C-081)."""
    with start_fleet(BYOA_MODEL_MEMORY_MB="150", BYOA_ON_FULL="refuse") as fleet:
        for name in ("a", "b", "c"):
            write_heavy(fleet, name, 20)
        assert fleet.load("a").status == fleet.load("b").status == 200

        refused = fleet.load("c")

        assert refused.status == 507
        assert (
            "of 75.0 MiB (BYOA_MODEL_MEMORY_MB) are taken by 2 models"
            in json.loads(refused.body)["message"]
        )
        assert fleet.names() == ["a", "b"]
        fleet.unload("a")
        assert fleet.load("c").status == 200
        assert {fleet.invoke(name, b"0").status for name in ("b", "c")} == {200}


def test_model_in_use_is_never_evicted(full_fleet: Fleet) -> None:
    """507 while every model is in use; a moment later there is room (C-081)."""
    fleet = full_fleet
    with fleet.held() as (file, hold):
        for name, mebibytes in (("a", 20), ("b", 21), ("c", 20)):
            write_heavy(fleet, name, mebibytes)
        fleet.load("a")
        fleet.load("b")
        busy = [
            threading.Thread(target=fleet.invoke, args=(name, hold.encode())) for name in ("a", "b")
        ]
        for thread in busy:
            thread.start()
        for mebibytes in (20, 21):
            fleet.server.wait_for_output(f"{mebibytes} MiB wait for {hold}", PATIENCE_SECONDS)

        refused = fleet.load("c")
        file.unlink()
        for thread in busy:
            thread.join()

        assert refused.status == 507
        assert "in use or pinned" in json.loads(refused.body)["message"]
        assert fleet.names() == ["a", "b"]
        assert fleet.load("c").status == 200


@pytest.mark.docker_cases(0)
def test_pinned_model_is_never_evicted(start_fleet: StartFleet) -> None:
    """Pins a model by a pattern of its name (C-081)."""
    environment = {"BYOA_MODEL_MEMORY_MB": "75", "BYOA_PINNED_MODELS": "vip-*, Other"}
    with start_fleet(**environment, **ONE_WORKER) as fleet:
        for name in ("vip-1", "a", "b", "Other", "c"):
            write_heavy(fleet, name, 20)
        for name in ("vip-1", "a", "b"):
            assert fleet.load(name).status == 200

        assert hit(fleet, "vip-1") == 1

        assert fleet.load("Other").status == 200
        refused = fleet.load("c")
        assert refused.status == 507
        assert "in use or pinned" in json.loads(refused.body)["message"]
        assert [hit(fleet, name) for name in ("vip-1", "Other")] == [1, 1]
        assert fleet.invoke("a", b"0").status == 507  # it is loaded, and there is no room


def test_many_waiting_requests_share_one_load(full_fleet: Fleet) -> None:
    """50 invocations of an evicted model at once load it once (C-090)."""
    fleet = full_fleet
    write_heavy(fleet, "a", 40)
    write_heavy(fleet, "b", 40)
    fleet.load("a")
    fleet.load("b")
    before = fleet.metrics()

    answers = in_parallel(50, lambda _: fleet.invoke("a", b"0"))

    after = fleet.metrics()
    assert {answer.status for answer in answers} == {200}
    assert after["byoa_model_loads_total"] - before["byoa_model_loads_total"] == 1
    assert after["ModelCacheHit_count"] - before["ModelCacheHit_count"] == 50


def test_unload_waits_for_what_runs(one_worker_fleet: Fleet) -> None:
    """Invocations finish, then the memory is free, then the answer comes (C-085)."""
    fleet = one_worker_fleet
    with fleet.held() as (file, hold), ThreadPoolExecutor(2) as pool:
        write_heavy(fleet, "a", 20)
        fleet.load("a")
        busy = pool.submit(fleet.invoke, "a", hold.encode())
        fleet.server.wait_for_output(f"20 MiB wait for {hold}", PATIENCE_SECONDS)

        unloading = pool.submit(fleet.unload, "a")
        time.sleep(0.5)
        assert not unloading.done()
        file.unlink()

        assert busy.result().status == 200
        assert unloading.result().status == 200
        assert fleet.metrics()["byoa_resident_models"] == 0


def test_memory_that_runs_out_in_an_invocation_is_507(fleet: Fleet) -> None:
    """The process lives, and so do all models (C-091)."""
    greedy = """
        def model_fn(model_dir):
            return None

        def transform_fn(model, body, content_type, accept):
            return str(len(bytearray(int(body) * 2**40)))
    """
    fleet.write("m", {"code/inference.py": greedy})
    fleet.load("m")
    before = fleet.processes("worker")

    refused = fleet.invoke("m", b"1000000")

    assert error_of(refused) == (507, "InsufficientStorageException", "out_of_memory")
    assert fleet.invoke("m", b"0").text == "0"
    assert fleet.processes("worker") == before


# Takes memory in a way that no limit of a process counts, as a library may.
SHARED = """
    import mmap

    def model_fn(model_dir):
        block = mmap.mmap(-1, 2**30)
        for start in range(0, 2**30, 4096):
            block[start] = 1
        return block
"""


@pytest.mark.docker
@pytest.mark.parametrize("script", [HEAVY, SHARED], ids=["counted", "not counted"])
def test_container_of_little_memory_survives_a_model_that_wants_more(
    image: str, tmp_path: Path, script: str
) -> None:
    """507 by the limit of the validation run, or because the kernel killed that process alone
    (C-081).
    """
    backend = DockerBackend(image, ("--memory", "500m", "--memory-swap", "500m"))
    with started(backend, tmp_path / "ml") as fleet:
        fleet.write_constant("small", 1.0)
        fleet.write("large", {"code/inference.py": script, "size": "1000"})
        fleet.load("small")
        before = [*fleet.processes("worker"), *fleet.processes("fork-server")]

        refused = fleet.load("large")

        assert error_of(refused) == (507, "InsufficientStorageException", "out_of_memory")
        assert "MiB are free" in json.loads(refused.body)["message"]
        assert float(fleet.invoke("small").body) == 1.0
        assert [*fleet.processes("worker"), *fleet.processes("fork-server")] == before
        assert fleet.names() == ["small"]


@pytest.mark.slow
@pytest.mark.docker_cases(0)
def test_memory_of_unloaded_models_comes_back(start_fleet: StartFleet) -> None:
    """Workers are as large as before after each of 40 loads and unloads of 20 MB (C-085)."""
    with start_fleet() as fleet:
        write_heavy(fleet, "a", 20)
        sizes = []
        for _ in range(40):
            assert fleet.load("a").status == 200
            in_parallel(4, lambda _: fleet.invoke("a", b"0"))
            assert fleet.unload("a").status == 200
            sizes.append(resident_kilobytes(fleet))

        assert max(sizes[20:]) - min(sizes[10:20]) < 4000


def resident_kilobytes(fleet: Fleet) -> int:
    total = 0
    for process_id in fleet.processes("worker"):
        with open(f"/proc/{process_id}/smaps_rollup") as file:
            total += next(int(line.split()[1]) for line in file if line.startswith("Rss:"))
    return total
