"""The first libsvm column: of the training data, the operator's setting, or AWS's rule."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from container import manifest
from container.errors import MalformedPayloadError
from container.manifest import Framework, ModelFacts
from container.settings import Settings
from serve import loading
from serve.invocation import Invocation, Servable

RECORD = [2, 0.645, 0.5, 0.16, 1.2, 0.6, 0.28, 0.385]
UNKNOWN = object()  # a manifest without the field
ROWS = np.random.default_rng(0).random((300, 8), dtype=np.float32) * [4, *[1.5] * 7]


@pytest.fixture(scope="module")
def booster() -> xgboost.Booster:
    labels = ROWS @ np.arange(1, 9)
    return xgboost.train({"nthread": 1}, xgboost.DMatrix(ROWS, labels), 20)


Make = Callable[..., Servable]


@pytest.fixture
def serve(tmp_path: Path, booster: xgboost.Booster) -> Make:
    """Load the model, with a manifest of this base (or none) and these settings."""

    def load(*bases: Any, **settings: Any) -> Servable:
        (tmp_path / "xgboost-model").write_bytes(booster.save_raw("ubj"))
        if bases:
            facts = ModelFacts(framework=Framework(name="xgboost", version="3"), n_features=8)
            base = None if bases[0] is UNKNOWN else bases[0]
            manifest.write(tmp_path, "xgboost", facts, libsvm_base=base)
        if bases == (UNKNOWN,):
            file = tmp_path / manifest.MANIFEST_FILE
            content = json.loads(file.read_bytes())
            del content["libsvm_base"]
            file.write_text(json.dumps(content))
        return loading.inspect(tmp_path, Settings(**settings)).load()

    return load


def _libsvm(record: list[float], first: int, leave_out: int | None = None) -> bytes:
    cells = [f"{n + first}:{cell}" for n, cell in enumerate(record) if n != leave_out]
    return f"10 {' '.join(cells)}\n".encode()


def _scores(servable: Servable, body: bytes, content_type: str = "text/libsvm") -> list[float]:
    answer = servable.invoke(Invocation(body, content_type))
    assert isinstance(answer.body, bytes)
    return [float(line) for line in answer.body.split()]


def _csv(leave_out: int | None = None) -> bytes:
    return ",".join("" if n == leave_out else str(cell) for n, cell in enumerate(RECORD)).encode()


@contextmanager
def _refused(message: str) -> Iterator[None]:
    with pytest.raises(MalformedPayloadError, match=message):
        yield


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("leave_out", [None, 0, 3, 7])
def test_manifest_decides_for_every_record_alone(
    serve: Make, first: int, leave_out: int | None
) -> None:
    """The manifest's base holds for records without the first or last column (C-101, C-072)."""
    servable = serve(first, libsvm_base=1 - first)
    (expected,) = _scores(servable, _csv(leave_out), "text/csv")

    body = _libsvm(RECORD, first, leave_out)

    assert _scores(servable, body) == [expected]
    assert _scores(servable, _libsvm(RECORD, first) + body)[1] == expected


@pytest.mark.parametrize("given", [{}, {"libsvm_base": 1}])
def test_model_of_an_older_manifest_counts_from_0(serve: Make, given: dict[str, int]) -> None:
    """A model of an older manifest counts from 0 (C-101)."""
    servable = serve(UNKNOWN, **given)

    assert _scores(servable, _libsvm(RECORD, 0)) == _scores(servable, _csv(), "text/csv")
    with _refused("columns count from 0 for it; if yours count from 1, subtract 1 from each"):
        _scores(servable, _libsvm(RECORD, 1))


@pytest.mark.parametrize(("given", "first"), [({}, 0), ({"libsvm_base": 1}, 1)])
def test_model_of_other_training_data_counts_as_the_operator_says(
    serve: Make, given: dict[str, int], first: int
) -> None:
    """The operator's base holds, by default 0; it is never guessed (C-101)."""
    servable = serve(None, **given)

    assert _scores(servable, _libsvm(RECORD, first)) == _scores(servable, _csv(), "text/csv")
    last_alone = f"1 {7 + first}:0.385\n".encode()
    assert _scores(servable, last_alone) == _scores(servable, b",,,,,,,0.385", "text/csv")


def test_model_without_a_manifest_is_served_as_in_awss_image(serve: Make) -> None:
    """A request counts from 1 unless one of its columns is 0 (C-101)."""
    servable = serve()
    expected = _scores(servable, _csv(), "text/csv")

    assert _scores(servable, _libsvm(RECORD, 1)) == expected
    assert _scores(servable, _libsvm(RECORD, 0)) == expected
    lacks_8 = _scores(servable, _csv(leave_out=7), "text/csv")
    assert _scores(servable, _libsvm(RECORD, 1, leave_out=7)) == lacks_8
    with _refused("record 2: the model takes 8 features and the record has column 8"):
        _scores(servable, _libsvm(RECORD, 0) + _libsvm(RECORD, 1))


@pytest.mark.parametrize("first", [0, 1])
def test_operator_fixes_the_base_of_a_model_without_a_manifest(serve: Make, first: int) -> None:
    """With a fixed base, a record's score does not depend on its request (C-101)."""
    servable = serve(libsvm_base=first)

    lacks_first = _scores(servable, _csv(leave_out=0), "text/csv")
    assert _scores(servable, _libsvm(RECORD, first, leave_out=0)) == lacks_first
    with _refused(f"line 1, column {9 if first == 0 else 2}: .* count from {first} for it"):
        _scores(servable, _libsvm(RECORD, 1 - first))


def test_empty_value_is_an_empty_cell(serve: Make) -> None:
    """Reads libsvm as in AWS's own test data (C-102)."""
    servable = serve()

    body = _libsvm(RECORD, 1).replace(b"8:0.385", b"8:")

    assert _scores(servable, body) == _scores(servable, _csv(leave_out=7), "text/csv")


@pytest.mark.parametrize(
    ("bases", "settings", "said"),
    [
        ((1,), {}, 1),
        ((UNKNOWN,), {}, 0),
        ((None,), {"libsvm_base": 1}, 1),
        ((), {}, "per request"),
        ((), {"libsvm_base": 0}, 0),
    ],
)
def test_log_says_the_base_once_a_loaded_model(
    serve: Make,
    caplog: pytest.LogCaptureFixture,
    bases: tuple[Any, ...],
    settings: dict[str, int],
    said: Any,
) -> None:
    """The log has the base of a loaded model (C-101)."""
    with caplog.at_level(logging.INFO):
        servable = serve(*bases, **settings)
        servable.invoke(Invocation(_libsvm(RECORD, 1, leave_out=7), "text/libsvm"))

    loaded = [vars(entry) for entry in caplog.records if hasattr(entry, "libsvm_base")]
    assert [(entry["message"], entry["libsvm_base"]) for entry in loaded] == [
        ("model_loaded", said)
    ]
