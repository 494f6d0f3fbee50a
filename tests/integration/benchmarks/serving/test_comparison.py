"""A run over servers, round by round."""

from importlib import metadata
from pathlib import Path

import pytest

from benchmarks.harness.running import ServerError
from benchmarks.harness.servers import Server, all_servers
from benchmarks.serving.comparison import RESULTS_FILE, Comparison, Options
from benchmarks.serving.results import Results
from tests.unit.benchmarks.conftest import make_sample

OPTIONS = Options(repetitions=3)


class InterruptedRun(Comparison):
    """Measures nothing; one server fails in the second round, and Ctrl-C ends the third."""

    def _prepare(self) -> dict[str, Path]:
        return dict.fromkeys(all_servers(), Path())

    def _measure(self, server: Server, environment_dir: Path, repetition: int) -> None:
        if repetition == 2 and server.name == "kserve":
            raise ServerError("it died\nand said much")
        if repetition == 3:
            raise KeyboardInterrupt
        self._results.samples.append(make_sample(server.name))


def test_interrupted_run_keeps_the_rounds_that_it_has(tmp_path: Path) -> None:
    """With the reason why a server is missing, and as many repetitions as there were."""
    (tmp_path / "models" / f"small-xgboost-{metadata.version('xgboost-cpu')}").mkdir(parents=True)
    servers = [all_servers()[name] for name in ("ours", "kserve")]

    with pytest.raises(KeyboardInterrupt):
        InterruptedRun(servers, OPTIONS, tmp_path).run()

    found = Results.read(tmp_path / RESULTS_FILE)
    assert [sample.server for sample in found.samples] == ["ours", "kserve", "ours"]
    assert {subject.name: subject.problem for subject in found.subjects} == {
        "ours": "",
        "kserve": "it died",
    }
    assert found.options["repetitions"] == 2
