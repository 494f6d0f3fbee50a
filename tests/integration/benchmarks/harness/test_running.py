"""Starting, checking and stopping real servers."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.harness import running as running_module
from benchmarks.harness.formats import FORMATS
from benchmarks.harness.model_files import Questions
from benchmarks.harness.running import Running, ServerError, running
from benchmarks.harness.servers import Server
from local_test.host_process import members_of_group
from tests.waiting import PATIENCE_SECONDS, wait_for

FAKE_SERVER = Path(__file__).with_name("fake_server.py")
# Prints the number of the server, and then measures for ever.
MEASURING = f"""
import sys, time
from pathlib import Path
from benchmarks.harness.running import exit_at_sigterm, launched
from tests.integration.benchmarks.harness.test_running import server
exit_at_sigterm()
here = Path(sys.argv[1])
with launched(server("right"), environment_dir=here, model_dir=here) as found:
    print(found.process.process_id, flush=True)
    time.sleep({PATIENCE_SECONDS})
"""


@pytest.fixture
def questions(tmp_path: Path) -> Questions:
    """Rows whose prediction is their sum."""
    content = {"rows": [[1, 2], [3, 4], [5, 6]], "expected": [3, 7, 11]}
    (tmp_path / "rows.json").write_text(json.dumps(content))
    return Questions(tmp_path, (1, 3))


def server(behaviour: str) -> Server:
    return Server(
        directory=FAKE_SERVER.parent,
        title="a fake",
        package="fake",
        format=FORMATS["csv"],
        route="/invocations",
        workers="",
        settings="",
        command=(sys.executable, str(FAKE_SERVER), "{port}", behaviour),
        ports=2,
    )


def living(started: Running) -> list[int]:
    return list(members_of_group(started.process.process_id))


def test_running_waits_for_the_first_right_answer(questions: Questions, tmp_path: Path) -> None:
    """Half a second until it listens, and a 503 that is no answer."""
    with running(
        server("slow"), questions, environment_dir=tmp_path, model_dir=tmp_path
    ) as started:
        started.check(questions)

        assert 0.5 < started.start_seconds < 10
        assert started.footprint().processes == 2


def test_running_stops_every_process(questions: Questions, tmp_path: Path) -> None:
    """Also the child that the server has left behind, and after an error in the block."""
    with pytest.raises(RuntimeError, match="measuring failed"):  # noqa: SIM117, PT012 -- the order matters
        with running(
            server("right"), questions, environment_dir=tmp_path, model_dir=tmp_path
        ) as started:
            before = living(started)
            raise RuntimeError("measuring failed")

    assert len(before) == 2
    assert living(started) == []


def test_running_with_wrong_answers_is_an_error(
    questions: Questions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quick wrong answers do not make a server ready."""
    monkeypatch.setattr(running_module, "START_TIMEOUT_SECONDS", 3.0)

    with (
        pytest.raises(ServerError, match=r"no right answer within 3 s; last: status 200: b'3.1'"),
        running(server("wrong"), questions, environment_dir=tmp_path, model_dir=tmp_path),
    ):
        pass


def test_running_one_that_ends_shows_its_output(questions: Questions, tmp_path: Path) -> None:
    """At once, not after the time in which it could have started."""
    with (
        pytest.raises(ServerError, match=r"it ended(.|\n)*no model here"),
        running(server("ends"), questions, environment_dir=tmp_path, model_dir=tmp_path),
    ):
        pass


def test_check_asks_for_every_size(questions: Questions, tmp_path: Path) -> None:
    """A server that is right for one row may be wrong for three."""
    with running(
        server("right"), questions, environment_dir=tmp_path, model_dir=tmp_path
    ) as started:
        (tmp_path / "csv-3.body").write_bytes(b"1,2\n3,4\n5,7\n")

        with pytest.raises(ServerError, match="3 rows: status 200, and not the right predictions"):
            started.check(questions)


def test_check_of_a_server_that_dies_is_an_error(questions: Questions, tmp_path: Path) -> None:
    """One that the run goes on after: while it is asked, and when nobody listens any more."""
    with running(
        server("dies"), questions, environment_dir=tmp_path, model_dir=tmp_path
    ) as started:
        for _ in range(2):
            # Which error it is depends on how far the kernel has got with taking down the server.
            with pytest.raises(ServerError, match=r"1 rows: no answer: (Remote|Connection)"):
                started.check(questions)


@pytest.fixture
def _restored_sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("package", ["", ".fuzz", ".multi_model", ".mutate_models", ".training"])
@pytest.mark.usefixtures("_restored_sigterm")
def test_every_command_exits_at_sigterm(package: str) -> None:
    """The default would leave the server behind."""
    command = import_module(f"benchmarks{package}.__main__")

    with pytest.raises(SystemExit):
        command.main(["--help"])

    handler = signal.getsignal(signal.SIGTERM)
    assert callable(handler)
    with pytest.raises(SystemExit, match="143"):
        handler(signal.SIGTERM, None)


def test_sigterm_stops_the_server(tmp_path: Path) -> None:
    """Nothing is left of a run that is stopped, and its exit code tells why."""
    with subprocess.Popen(
        [sys.executable, "-c", MEASURING, str(tmp_path)],
        cwd=Path(__file__).parents[4],
        stdout=subprocess.PIPE,
        text=True,
    ) as measuring:
        assert measuring.stdout is not None
        group = int(measuring.stdout.readline())
        assert [*members_of_group(group)]
        measuring.terminate()

        assert measuring.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
    wait_for(lambda: not [*members_of_group(group)])
