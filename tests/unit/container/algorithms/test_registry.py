"""Registry of algorithms: which of them a model needs, and which are imported for it."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import xgboost
from sklearn.linear_model import LogisticRegression

from container.algorithms import contract, registry
from container.algorithms.contract import Algorithm
from container.errors import AlgorithmError, ModelLoadError
from tests.unit.serve.conftest import SumModel


class OtherAlgorithm(Algorithm):
    """Recognises `other.model`, and adopts every `LogisticRegression`."""

    name = "other"

    def fit(self, job: object) -> Any:
        raise NotImplementedError

    def load(self, directory: object, manifest: object, options: object) -> Any:
        raise NotImplementedError

    def recognises(self, directory: Path) -> bool:
        return (directory / "other.model").exists()

    def adopt(self, model: object) -> object:
        return f"adopted {type(model).__name__}"


OTHER = OtherAlgorithm()


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Install one wheel that works and one that is broken; return the modules imported of them."""
    modules: list[str] = []
    wheel = ModuleType("other_wheel")
    wheel.__dict__["ALGORITHM"] = OTHER
    monkeypatch.setitem(sys.modules, "other_wheel", wheel)
    import_module = registry.import_module

    def recorded(name: str) -> ModuleType:
        modules.append(name)
        return import_module(name)

    entries = {
        registry.GROUP: [
            EntryPoint("broken", "no_such_module:ALGORITHM", registry.GROUP),
            EntryPoint("other", "other_wheel:ALGORITHM", registry.GROUP),
        ],
        registry.FRAMEWORKS: [EntryPoint("sklearn", "other_wheel:ALGORITHM", registry.FRAMEWORKS)],
    }
    monkeypatch.setattr(registry, "import_module", recorded)
    monkeypatch.setattr(registry, "entry_points", lambda group: entries[group])
    return modules


@pytest.mark.parametrize("model", [SumModel(), {"weights": [1]}, 3, None])
def test_model_object_of_no_declared_framework_imports_no_algorithm(
    imported: list[str], model: object
) -> None:
    """The package of the object's class decides."""
    assert registry.adopt(model) is None
    assert imported == []


def test_model_object_imports_the_algorithm_of_its_framework_only(imported: list[str]) -> None:
    """Also for a class of the user's own that inherits from one of the framework."""

    class Tuned(LogisticRegression):
        pass

    assert str(registry.adopt(Tuned())) == "adopted Tuned"
    assert imported == ["other_wheel"]

    assert registry.adopt(xgboost.Booster()) is not None
    assert imported == ["other_wheel", "container.algorithms.xgboost.algorithm"]


def test_broken_wheel_does_not_hide_the_algorithm_of_a_model(
    imported: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A model without a manifest is looked at by all others, and the log has the broken one."""
    with pytest.raises(ModelLoadError, match="no model in its root"):
        registry.for_artifact(tmp_path, None)
    (tmp_path / "other.model").touch()

    assert registry.for_artifact(tmp_path, None) is OTHER
    assert caplog.messages.count("algorithm_not_loaded") > 0


class Misdeclared(OtherAlgorithm):
    name = "misdeclared"
    training_types = ("text/csv", "application/json")
    request_types = ()
    response_types = ("image/png",)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (OtherAlgorithm, "the class OtherAlgorithm, not an instance of it"),
        (SumModel(), "an instance of SumModel; register an instance of a subclass of"),
        (OTHER, "its name is 'other': set name = 'misdeclared'"),
        (Misdeclared(), "training_types has application/json; accepted: text/csv, "),
        (Misdeclared(), "request_types has nothing; accepted: text/csv, "),
        (Misdeclared(), "response_types has image/png; accepted: text/csv, "),
    ],
)
def test_algorithm_that_breaks_the_contract_is_refused_with_what_is_wrong(
    found: object, message: str
) -> None:
    """A type that nothing reads would otherwise fail in the middle of a job."""
    with pytest.raises(AlgorithmError, match=message):
        contract.check(found, "misdeclared")


def test_subclass_without_the_members_that_have_no_default_cannot_be_made() -> None:
    """Python names them."""

    class Half(Algorithm):
        name = "half"

    with pytest.raises(TypeError, match=r"fit.*load"):
        Half()  # type: ignore[abstract]
