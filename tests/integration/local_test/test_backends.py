"""Promises of both backends, run with a fake program, as processes and in containers."""

import os
import signal
import time
from pathlib import Path

import pytest

from local_test.backends import Backend, ProcessBackend
from local_test.invoke import invoke, ping
from local_test.ml_tree import MlTree
from local_test.outcomes import EndedBy, ProgramError, ProgramTimeoutError, ServerStartError
from tests.waiting import PATIENCE_SECONDS


def is_dead(pid: int) -> bool:
    """Say so of a zombie, too: it waits only for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_training_that_works_leaves_model_and_output(backend: Backend, ml: MlTree) -> None:
    """The exit code, what was written to both output streams and the model come back."""
    run = backend.run_training(ml)

    assert run.exit_code == 0
    assert sorted(run.output.splitlines()) == ["[0]\ttrain-rmse:1.5", "a warning"]
    assert ml.model_files() == ("model.json",)


def test_training_that_fails_is_a_result(backend: Backend, ml: MlTree) -> None:
    """A failed job raises nothing: exit code and failure reason tell."""
    run = backend.run_training(ml, environment={"FAKE": "fails"})

    assert run.exit_code == 3
    assert ml.failure_reason() == "because of the channel"
    assert ml.model_files() == ()


def test_training_that_takes_too_long_is_killed(backend: Backend, ml: MlTree) -> None:
    """The error shows what was written until then."""
    with pytest.raises(ProgramTimeoutError, match=r"(?s)still running after 1 s.*train-rmse"):
        backend.run_training(ml, environment={"FAKE": "ignores SIGTERM"}, timeout_seconds=1)


def test_training_saves_on_sigterm(backend: Backend, ml: MlTree) -> None:
    """A stopped job ends by itself, and what it saved is there."""
    training = backend.start_training(ml, environment={"FAKE": "saves on SIGTERM"})
    training.wait_for_output("waiting")

    stopped = training.stop(grace_seconds=20)

    assert (stopped.exit_code, stopped.ended_by) == (0, EndedBy.SIGTERM)
    assert training.output().endswith("got SIGTERM\n")
    assert ml.model_files() == ("model.json",)


def test_program_that_ignores_sigterm_is_killed_after_its_grace(
    backend: Backend, ml: MlTree
) -> None:
    """SIGKILL comes when the grace time is over, and the result says so."""
    training = backend.start_training(ml, environment={"FAKE": "ignores SIGTERM"})
    training.wait_for_output("waiting")

    stopped = training.stop(grace_seconds=0.5)

    assert (stopped.exit_code, stopped.ended_by) == (137, EndedBy.SIGKILL)
    assert stopped.duration_seconds >= 0.5


def test_program_that_has_ended_is_not_said_to_be_stopped(backend: Backend, ml: MlTree) -> None:
    """Stopping a program that crashed before reports the crash."""
    training = backend.start_training(ml, environment={"FAKE": "fails"})
    while training.is_running():
        time.sleep(0.02)

    stopped = training.stop()

    assert (stopped.exit_code, stopped.ended_by) == (3, EndedBy.ITSELF)


def test_signal_is_delivered_and_its_exit_code_is_the_shells(backend: Backend, ml: MlTree) -> None:
    """A program that SIGKILL ended has exit code 137 in both modes; later signals do nothing."""
    training = backend.start_training(ml, environment={"FAKE": "ignores SIGTERM"})

    training.send_signal(signal.SIGKILL)

    assert training.wait(timeout_seconds=PATIENCE_SECONDS) == 137
    assert not training.is_running()
    assert training.process_ids() == ()
    training.terminate()
    training.close()


def test_output_can_be_followed(backend: Backend, ml: MlTree) -> None:
    """Following yields everything from a position on, and ends with the program."""
    training = backend.start_training(ml)

    followed = b"".join(training.follow(position=4))
    training.close()

    assert followed.decode() == training.output()[4:]
    assert len(followed) == len("[0]\ttrain-rmse:1.5\na warning\n") - 4


def test_output_that_never_comes_is_an_error(backend: Backend, ml: MlTree) -> None:
    """Waiting for a line ends with the program, whose last words are in the message."""
    with backend.start_training(ml, environment={"FAKE": "fails"}) as training:
        training.wait_for_output("a warning")
        with pytest.raises(ProgramError, match="ended with exit code 3 and never wrote 'ready'"):
            training.wait_for_output("ready")


def test_program_may_be_started_with_any_arguments(backend: Backend, ml: MlTree) -> None:
    """Wrong arguments reach the program, whose answer is a result."""
    run = backend.start_program(ml, ("dance",)).finish(timeout_seconds=PATIENCE_SECONDS)

    assert run.exit_code == 1
    assert "'dance' is neither train nor serve" in run.output


def test_server_answers_when_it_is_returned(backend: Backend, ml: MlTree) -> None:
    """A started server is ready, reached by its url, and ends by itself on SIGTERM."""
    with backend.start_server(ml) as server:
        answer = invoke(server.url, b"a,b")
        stopped = server.stop()

    assert (answer.status, answer.body) == (200, b"A,B")
    assert (stopped.exit_code, stopped.ended_by) == (0, EndedBy.SIGTERM)
    assert server.output().endswith("drained\n")


def test_server_left_by_its_context_is_stopped(backend: Backend, ml: MlTree) -> None:
    """The end of the block drains the server as the platform does."""
    with backend.start_server(ml) as server:
        url = server.url

    assert not server.is_running()
    assert server.output().endswith("drained\n")
    with pytest.raises(ConnectionRefusedError):
        ping(url)


def test_server_of_a_failed_test_is_killed(backend: Backend, ml: MlTree) -> None:
    """An exception in the block is not held up by a server that ignores SIGTERM."""
    started_at = time.monotonic()

    with (
        pytest.raises(ZeroDivisionError),
        backend.start_server(ml, environment={"FAKE": "ignores SIGTERM"}) as server,
    ):
        raise ZeroDivisionError

    assert not server.is_running()
    assert time.monotonic() - started_at < 20


def test_server_that_crashes_at_start_is_explained(backend: Backend, ml: MlTree) -> None:
    """The error has the exit code and the last fifty lines; all of the output is with it."""
    with pytest.raises(ServerStartError) as caught:
        backend.start_server(ml, environment={"FAKE": "crashes"})

    message = str(caught.value)
    assert message.startswith("the server ended with exit code 7 before it was ready")
    assert "line 11\n" in message
    assert "line 10\n" not in message
    assert message.endswith("line 60")
    assert "line 1\n" in caught.value.output
    assert caught.value.exit_code == 7


def test_server_that_is_never_ready_is_killed(backend: Backend, ml: MlTree) -> None:
    """The error says what the last ping gave."""
    with pytest.raises(ServerStartError, match=r"not ready within 2 s.*/ping gave 503"):
        backend.start_server(ml, environment={"FAKE": "is never ready"}, ready_timeout_seconds=2)


def test_server_need_not_be_waited_for(backend: Backend, ml: MlTree) -> None:
    """A test of readiness itself gets the server as soon as it runs."""
    with backend.start_server(
        ml, environment={"FAKE": "is never ready"}, wait_until_ready=False
    ) as server:
        server.wait_for_output("listening")

        assert ping(server.url).status == 503


def test_servers_run_side_by_side(backend: Backend, ml: MlTree) -> None:
    """Every server gets a port of its own."""
    with backend.start_server(ml) as one, backend.start_server(ml) as other:
        assert one.port != other.port
        assert ping(one.url).status == ping(other.url).status == 200


def test_server_listens_where_the_environment_says(backend: Backend, ml: MlTree) -> None:
    """SAGEMAKER_BIND_TO_PORT of the caller is respected, and the url still leads there."""
    with backend.start_server(ml, environment={"SAGEMAKER_BIND_TO_PORT": "18099"}) as server:
        server.wait_for_output("listening on port 18099\n")  # the engine hands it on later
        assert ping(server.url).status == 200


def test_worker_can_be_found_and_killed(backend: Backend, ml: MlTree) -> None:
    """The process tree is visible in the host's numbering, with the first process named."""
    if not isinstance(backend, ProcessBackend) and os.getuid() != 0:
        pytest.skip("only root may signal the processes of a container")
    with backend.start_server(ml, environment={"FAKE": "has a worker"}) as server:
        main, worker = server.process_ids()
        assert main == server.process_id

        os.kill(worker, signal.SIGKILL)

        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_dead(worker):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert server.is_running()


def test_environment_is_only_what_is_given(
    backend: Backend, ml: MlTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the caller's environment reaches the program unasked, not even credentials."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("SM_MODEL_DIR", "elsewhere")

    backend.run_training(ml, environment={"GIVEN": "a value = with signs"})

    environment = (ml.model_dir / "model.json").read_text()
    assert '"GIVEN": "a value = with signs"' in environment
    assert "secret" not in environment
    assert "SM_MODEL_DIR" not in environment


def test_path_inside_is_how_the_program_names_it(backend: Backend, ml: MlTree) -> None:
    """A path of the tree is translated for requests that carry paths."""
    inside = backend.path_inside(ml, ml.root / "models" / "a")

    root = str(ml.root) if isinstance(backend, ProcessBackend) else "/opt/ml"
    assert inside == f"{root}/models/a"


def test_reclaim_leaves_every_file_to_the_caller(backend: Backend, ml: MlTree) -> None:
    """The user who started the program can delete every file that it wrote."""
    backend.run_training(ml)

    backend.reclaim(ml)

    assert {file.stat().st_uid for file in ml.root.rglob("*")} == {os.getuid()}
