"""Several hosts: how their trees are laid out, run together, and put together again."""

from pathlib import Path

import pytest

from local_test.backends import Backend, ProcessBackend
from local_test.hosts import RunningHosts, lay_out
from local_test.ml_tree import MlTree
from local_test.programs import RunningProgram
from tests.unit.local_test.test_hosts import HOSTS, trees  # noqa: F401
from tests.waiting import PATIENCE_SECONDS


def test_all_hosts_run_to_their_end(backend: Backend, ml: MlTree, tmp_path: Path) -> None:
    """Each on its own tree; names are sorted, as on the platform."""
    names = backend.host_names(3)
    assert list(names) == sorted(names)
    trees = lay_out(ml, names, tmp_path / "hosts")

    runs = backend.start_training_on_hosts(trees).finish(60)

    assert {run.exit_code for run in runs.values()} == {0}
    assert tuple(runs) == names
    assert all(tree.model_files() == ("model.json",) for tree in trees.values())


def test_exit_code_is_that_of_a_host_that_failed(
    process_backend: ProcessBackend, trees: dict[str, MlTree]
) -> None:
    """One is enough to fail the job."""

    def start(host: str, tree: MlTree) -> RunningProgram:
        environment = {"FAKE": "fails"} if host == "algo-2" else {}
        return process_backend.start_training(tree, environment=environment)

    with RunningHosts(trees, start) as running:
        assert running.wait(PATIENCE_SECONDS) == 3


def test_lines_carry_the_name_of_their_host(
    process_backend: ProcessBackend, trees: dict[str, MlTree]
) -> None:
    """Nobody could tell them apart otherwise; lines are never mixed."""
    with process_backend.start_training_on_hosts(trees) as running:
        written = b"".join(running.follow()).decode().splitlines()

    for host in HOSTS:
        assert f"{host} | [0]\ttrain-rmse:1.5" in written
    assert len(written) == 6


def test_hosts_are_stopped_together(
    process_backend: ProcessBackend, trees: dict[str, MlTree]
) -> None:
    """SIGTERM reaches every one."""
    environment = {"FAKE": "saves on SIGTERM"}
    with process_backend.start_training_on_hosts(trees, environment=environment) as running:
        for program in running.programs.values():
            program.wait_for_output("waiting")
        running.terminate()

        assert running.wait(PATIENCE_SECONDS) == 0


def test_hosts_that_started_do_not_outlive_one_that_could_not(
    process_backend: ProcessBackend, trees: dict[str, MlTree]
) -> None:
    """Nothing is left of a job that never was."""
    started: list[RunningProgram] = []
    released: list[bool] = []

    def start(host: str, tree: MlTree) -> RunningProgram:
        if started:
            raise OSError("no more processes")
        environment = {"FAKE": "saves on SIGTERM"}
        started.append(process_backend.start_training(tree, environment=environment))
        return started[0]

    with pytest.raises(OSError, match="no more processes"):
        RunningHosts(trees, start, lambda: released.append(True))

    assert not started[0].is_running()
    assert released == [True]
