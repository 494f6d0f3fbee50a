"""``python -m local_test`` and the scripts beside it, in a copy that starts a fake program.

The copy stands beside a package ``container`` that is the fake, as the original stands beside the
product: that it works there shows, too, that it imports nothing of the product.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import local_test
from local_test.invoke import ping
from local_test.ml_tree import MlTree

FAKE_PROGRAM = Path(__file__).with_name("fake_program.py")
TIMEOUT_SECONDS = 30

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    source = Path(local_test.__file__).parent
    ignore = shutil.ignore_patterns("__pycache__", "test_dir")
    shutil.copytree(source, tmp_path / "local_test", ignore=ignore)
    (tmp_path / "container").mkdir()
    shutil.copy(FAKE_PROGRAM, tmp_path / "container" / "__main__.py")
    return tmp_path


def command_line(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "local_test", *map(str, arguments)]


@pytest.fixture
def run(repository: Path) -> Run:
    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command_line(*arguments),
            cwd=repository,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )

    return run


def test_prepare_lays_out_a_tree_to_train_on(run: Run, tmp_path: Path) -> None:
    """The tree is complete, and a payload to send lies in it."""
    result = run("prepare", "tree")

    assert result.returncode == 0
    assert sorted(path.name for path in (tmp_path / "tree" / "input" / "data").iterdir()) == [
        "train",
        "validation",
    ]
    assert (tmp_path / "tree" / "payload.csv").read_text().count("\n") == 114


def test_train_shows_output_and_model(run: Run, ml: MlTree) -> None:
    """The output of the program is shown unchanged, and the model files are named."""
    result = run("train", ml.root)

    assert result.returncode == 0
    assert result.stdout == "[0]\ttrain-rmse:1.5\na warning\n"
    assert f"{ml.model_dir} holds model.json" in result.stderr


def test_train_starts_with_empty_outputs(run: Run, ml: MlTree) -> None:
    """The model and failure of an earlier run are not mistaken for this one's."""
    (ml.model_dir / "old").touch()
    ml.failure_file.write_text("old")

    run("train", ml.root)

    assert ml.model_files() == ("model.json",)
    assert ml.failure_reason() is None


def test_train_that_fails_shows_the_failure_reason(run: Run, ml: MlTree) -> None:
    """The exit code is 1, and the program's own is named beside the reason."""
    result = run("train", ml.root, "--env", "FAKE=fails")

    assert result.returncode == 1
    assert "training ended with exit code 3" in result.stderr
    assert "because of the channel" in result.stderr


def test_train_refuses_a_directory_that_is_no_tree(run: Run, tmp_path: Path) -> None:
    """A directory with a model/ of the user's own is not emptied by mistake."""
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "precious").touch()

    result = run("train", "mine")

    assert result.returncode == 2
    assert "mine does not look like /opt/ml" in result.stderr
    assert (tmp_path / "mine" / "model" / "precious").exists()


def test_train_with_an_image_that_cannot_be_had_keeps_the_model(
    run: Run, ml: MlTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that cannot start keeps the model of the last run."""
    monkeypatch.setenv("BYOA_DOCKER", "no-such-docker")
    (ml.model_dir / "model").touch()

    result = run("train", ml.root, "--image", "mine")

    assert result.returncode == 2
    assert "the client 'no-such-docker' cannot be started" in result.stderr
    assert ml.model_files() == ("model",)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_train_that_is_interrupted_stops_the_program(
    repository: Path, ml: MlTree, signal_number: int
) -> None:
    """The program gets SIGTERM and the time to save, and its last words are shown."""
    arguments = ("train", ml.root, "--env", "FAKE=saves on SIGTERM")
    with subprocess.Popen(
        command_line(*arguments), cwd=repository, stdout=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout is not None
        while "waiting" not in command.stdout.readline():
            assert command.poll() is None

        command.send_signal(signal_number)

        last_words = command.stdout.read()
    assert command.returncode == 130
    assert last_words == "got SIGTERM\n"
    assert ml.model_files() == ("model.json",)


def test_serve_and_predict(repository: Path, run: Run, ml: MlTree) -> None:
    """A server runs until it is interrupted, meanwhile answers, and is gone afterwards."""
    (repository / "payload.csv").write_text("a,b\n")
    with subprocess.Popen(
        command_line("serve", ml.root, "--port", "0"),
        cwd=repository,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stderr is not None
        announcement = command.stderr.readline()
        assert announcement.startswith("ready on http://127.0.0.1:")
        url = announcement.removeprefix("ready on ").partition(";")[0]
        port = url.rpartition(":")[2]

        answer = run("predict", "payload.csv", "--port", port)
        scripted = subprocess.run(
            [repository / "local_test" / "predict.sh", repository / "payload.csv"],
            env={**os.environ, "PORT": port},
            capture_output=True,
            text=True,
        )
        command.send_signal(signal.SIGINT)
        last_words = command.stderr.read()
    assert (answer.returncode, answer.stdout) == (0, "A,B\n")
    assert (scripted.returncode, scripted.stdout) == (0, "A,B\n")
    assert command.returncode == 0
    assert last_words.endswith("the server ended with exit code 0\n")
    with pytest.raises(ConnectionRefusedError):
        ping(url)


def test_serve_that_ignores_sigterm_is_killed_by_the_second_signal(
    repository: Path, ml: MlTree
) -> None:
    """An impatient user need not wait for the grace time, and the exit code is a failure's."""
    with subprocess.Popen(
        command_line("serve", ml.root, "--port", "0", "--env", "FAKE=ignores SIGTERM"),
        cwd=repository,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stderr is not None
        assert command.stderr.readline().startswith("ready on")
        command.send_signal(signal.SIGINT)
        assert command.stderr.readline().startswith("stopping it with SIGTERM")

        command.send_signal(signal.SIGINT)

        last_words = command.stderr.read()
    assert command.returncode == 1
    assert last_words == "killing it\nthe server ended with exit code 137\n"


def test_serve_that_crashes_is_a_failure(run: Run, ml: MlTree) -> None:
    """The exit code is 1, and the program's own is named."""
    result = run("serve", ml.root, "--port", "0", "--env", "FAKE=crashes")

    assert result.returncode == 1
    assert "the server ended with exit code 7" in result.stderr
    assert "line 60\n" in result.stdout


def test_serve_on_a_port_in_use_is_not_tried(run: Run, ml: MlTree) -> None:
    """The message names the port."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]

        result = run("serve", ml.root, "--port", str(port))

    assert result.returncode == 2
    assert f"port {port} of 127.0.0.1 is not free" in result.stderr


def test_predict_without_server_says_how_to_start_one(run: Run, tmp_path: Path) -> None:
    """A refused connection ends in advice, not in a traceback."""
    (tmp_path / "payload.csv").touch()

    result = run("predict", "payload.csv", "--port", "1")

    assert result.returncode == 1
    assert "no answer from http://127.0.0.1:1" in result.stderr
    assert "python -m local_test serve DIR" in result.stderr


@pytest.mark.parametrize("command", ["prepare", "train", "serve", "predict"])
def test_every_command_explains_itself(run: Run, command: str) -> None:
    """--help is answered, exit codes included."""
    result = run(command, "--help")

    assert result.returncode == 0
    assert "exit codes:" in result.stdout


@pytest.mark.parametrize("script", ["train_local.sh", "serve_local.sh", "predict.sh"])
@pytest.mark.parametrize("arguments", [(), ("--help",), ("--other",), ("a", "b", "c")])
def test_scripts_show_their_usage(
    repository: Path, script: str, arguments: tuple[str, ...]
) -> None:
    """Without their arguments the scripts do nothing but say what they take."""
    result = subprocess.run(
        [repository / "local_test" / script, *arguments], capture_output=True, text=True
    )

    is_asked = arguments == ("--help",)
    assert result.returncode == (0 if is_asked else 2)
    assert (result.stdout if is_asked else result.stderr).startswith("usage: ")


def test_script_does_not_send_a_file_that_is_not_there(repository: Path, tmp_path: Path) -> None:
    """An empty request would have an empty answer."""
    command = [repository / "local_test" / "predict.sh", tmp_path / "nothing.csv"]
    result = subprocess.run(command, capture_output=True, text=True)

    assert result.returncode == 2
    assert result.stderr.endswith(f"cannot read {tmp_path}/nothing.csv\n")


def test_train_on_several_instances(run: Run, ml: MlTree) -> None:
    """Each has a tree, what they leave is put together, and lines carry their host's name."""
    result = run("train", ml.root, "--instances", "2")

    assert result.returncode == 0, result.stderr
    assert len(list((ml.root / "instances").iterdir())) == 2
    assert ml.model_files() == ("model.json",)
    assert result.stdout.count(".1 | [0]\ttrain-rmse:1.5") == 1
    assert result.stdout.count(".2 | [0]\ttrain-rmse:1.5") == 1


def test_train_on_several_instances_that_fail(run: Run, ml: MlTree) -> None:
    """The reason is shown as that of a single one."""
    result = run("train", ml.root, "--instances", "2", "--env", "FAKE=fails")

    assert result.returncode == 1
    assert "exit code 3; output/failure says:\nbecause of the channel" in result.stderr


@pytest.mark.parametrize("number", ["0", "21", "two", "-1"])
def test_number_of_instances_is_checked(run: Run, ml: MlTree, number: str) -> None:
    """Before anything is emptied."""
    result = run("train", ml.root, f"--instances={number}")

    assert result.returncode == 2
    assert "is not a number from 1 to 20" in result.stderr
