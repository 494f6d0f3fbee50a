"""Starting, checking and stopping real servers."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.harness import running as running_module
from benchmarks.harness.formats import FORMATS
from benchmarks.harness.model_files import Questions
from benchmarks.harness.running import Running, ServerError, running
from benchmarks.harness.servers import Server
from local_test.host_process import members_of_group

FAKE_SERVER = Path(__file__).with_name("fake_server.py")


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
