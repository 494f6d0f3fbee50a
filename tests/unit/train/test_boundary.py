"""Misbehaviour of plug-in algorithms, after which the job ends as the platform expects."""

import signal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from container.algorithms import registry
from container.algorithms.contract import Algorithm
from container.manifest import Framework, ModelFacts
from tests.unit.train.conftest import Tree
from train import job, metric_lines


class Hyperparameters(BaseModel):
    num_round: int


class Plugin(Algorithm):
    """An algorithm whose `fit` and `save` are the test's."""

    name = "plugin"

    def hyperparameters(self) -> type[BaseModel]:
        return Hyperparameters

    def fit(self, job: Any) -> Any:
        return self

    def save(self, directory: Path) -> ModelFacts:
        return ModelFacts(framework=Framework(name="none", version="1"), n_features=1)

    def load(self, directory: Path, manifest: Any, options: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch, tree: Tree) -> Plugin:
    algorithm = Plugin()
    monkeypatch.setattr(registry, "get", lambda name: algorithm)
    tree.hyperparameters()
    tree.channel("train", {"a.csv": b"1,2\n0,3\n"})
    return algorithm


@pytest.mark.parametrize(
    "error",
    [SystemExit(0), SystemExit(256), SystemExit("done"), KeyboardInterrupt(), ZeroDivisionError()],
)
def test_whatever_fit_raises_is_a_failure(
    plugin: Plugin, tree: Tree, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """An algorithm that calls sys.exit(0) has not succeeded (C-026, C-027)."""

    def fit(job: Any) -> None:
        raise error

    monkeypatch.setattr(plugin, "fit", fit)

    assert job.main(tree.environ) == 1
    assert f"internal error: {type(error).__name__}" in tree.failure
    assert tree.model_files == []


def test_package_that_the_image_lacks_is_named(
    plugin: Plugin, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slim image has one framework, and code for all."""

    def fit(job: Any) -> None:
        import no_such_package  # type: ignore[import-not-found] # noqa: F401

    monkeypatch.setattr(plugin, "fit", fit)

    assert job.main(tree.environ) == 1
    assert "the package 'no_such_package' is not installed: the slim image" in tree.failure


def test_failure_file_of_the_algorithm_itself_is_kept(
    plugin: Plugin, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The algorithm knows the cause better than the job."""

    def fit(job: Any) -> None:
        (tree.root / "output").mkdir(exist_ok=True)
        (tree.root / "output" / "failure").write_text("the third column is a date")
        raise ValueError("boom")

    monkeypatch.setattr(plugin, "fit", fit)

    assert job.main(tree.environ) == 1
    assert tree.failure == "the third column is a date"


def test_secrets_are_in_neither_the_log_nor_the_failure_file(
    plugin: Plugin,
    tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """CloudWatch and DescribeTrainingJob have more readers than a job has owners."""
    tree.hyperparameters(db_password="hunter22", pin_secret="0", num_round="3")  # noqa: S106

    def fit(job: Any) -> None:
        raise ValueError("joe:hunter22 may not read, nor AKIAIOSFODNN7EXAMPLE with t0k-t0k-t0k")

    monkeypatch.setattr(plugin, "fit", fit)

    assert job.main(tree.environ | {"AWS_SESSION_TOKEN": "t0k-t0k-t0k"}) == 1

    text = tree.failure + capsys.readouterr().out
    assert "joe:*** may not read, nor *** with ***" in tree.failure
    assert not [secret for secret in ("hunter22", "AKIA", "t0k", '"0"') if secret in text]
    assert "Traceback" in text


def test_model_of_several_directories_is_put_in_place_twice(
    plugin: Plugin, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directories stay usable, and a second job replaces the files of the first (C-005, C-030)."""
    saved: list[str] = []

    def save(directory: Path) -> ModelFacts:
        saved.append("x" * (len(saved) + 1))
        (directory / "1" / "variables").mkdir(parents=True)
        (directory / "1" / "variables" / "data").write_text(saved[-1])
        return ModelFacts(framework=Framework(name="none", version="1"), n_features=1)

    monkeypatch.setattr(plugin, "save", save)

    for _ in range(2):
        assert job.main(tree.environ) == 0, tree.failure

    file = tree.root / "model" / "1" / "variables" / "data"
    assert file.read_text() == "xx"
    assert file.parent.stat().st_mode & 0o111 == 0o111
    assert tree.model_files == ["1", "byoa-manifest.json"]


def test_directory_in_the_place_of_a_file_leaves_everything_as_it_was(
    plugin: Plugin, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old manifest is not removed for a model that cannot be put in place."""
    job.main(tree.environ)
    (tree.root / "model" / "weights").mkdir()
    before = (tree.root / "model" / "byoa-manifest.json").read_bytes()

    def save(directory: Path) -> ModelFacts:
        (directory / "weights").write_text("new")
        return ModelFacts(framework=Framework(name="none", version="1"), n_features=1)

    monkeypatch.setattr(plugin, "save", save)

    assert job.main(tree.environ) == 1
    assert "holds a directory where weights belongs" in tree.failure
    assert (tree.root / "model" / "byoa-manifest.json").read_bytes() == before


def _stop_in_round_five(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a job that gets SIGTERM while it reports its sixth round."""
    announce = metric_lines.announce

    def stop_in_round_five(iteration: int, scores: Any) -> None:
        announce(iteration, scores)
        if iteration == 5:
            signal.raise_signal(signal.SIGTERM)  # to this very thread, so that it comes at once

    handler = signal.getsignal(signal.SIGTERM)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(metric_lines, "announce", stop_in_round_five)
            return job.main(tree.environ)
    finally:
        signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize("given", [{}, {"save_model_on_termination": "true"}])
def test_sigterm_during_training_saves_the_finished_rounds(
    cancer: Tree, given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loadable model of the rounds so far, and the exit code says that it was stopped (C-029)."""
    import xgboost

    cancer.hyperparameters(num_round="100000", objective="binary:logistic", **given)

    assert _stop_in_round_five(cancer, monkeypatch) == 143

    content = bytearray((cancer.root / "model" / "xgboost-model").read_bytes())
    assert xgboost.Booster(model_file=content).num_boosted_rounds() == 6
    assert cancer.failure == ""


@pytest.mark.parametrize("given", [{}, {"_kfold": "2"}], ids=["one model", "folds"])
def test_sigterm_leaves_no_model_where_the_job_asks_for_none(
    cancer: Tree, given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint is made all the same, and a job that is not stopped has its model (C-107)."""
    checkpoints = cancer.root / "checkpoints"
    checkpoints.mkdir()
    cancer.hyperparameters(num_round="500", save_model_on_termination="false", **given)

    assert _stop_in_round_five(cancer, monkeypatch) == 143

    assert cancer.model_files == []
    assert cancer.failure == ""
    assert not (cancer.root / "output" / "data").exists()
    if not given:
        assert [path.name for path in checkpoints.iterdir()] == ["checkpoint-00000006"]
    cancer.hyperparameters(num_round="8", save_model_on_termination="false", **given)
    assert job.main(cancer.environ) == 0, cancer.failure
    assert "byoa-manifest.json" in cancer.model_files
