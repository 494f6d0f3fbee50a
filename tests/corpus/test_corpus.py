"""Runs the corpus: `<format>/valid/NAME.body` decodes to `NAME.json` (null is a missing value),
`<format>/invalid/NAME.body` is refused with the message in `NAME.error`.

Where there is a `NAME.columns`, it says how the records are to be read (`label_size`, `has_weight`,
`n_features`, `feature_names`, …); labels, weights and query ids are then expected beside the
`features` of `NAME.json`.

A bug's reproduction is two more files. The expectations were written by hand, the bodies as well;
those of binary formats are written by `binary_bodies.py`.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from container import codecs
from container.codecs.records import Columns, Floats, SparseRows
from container.errors import MalformedPayloadError

ROOT = Path(__file__).parent
CONTENT_TYPES = {
    "csv": "text/csv",
    "libsvm": "text/libsvm",
    "json": "application/json",
    "jsonlines": "application/jsonlines",
    "npy": "application/x-npy",
    "npz": "application/x-npz",
    "parquet": "application/x-parquet",
    "recordio": "application/x-recordio-protobuf",
}


def _cases(kind: str) -> list[Path]:
    return sorted(ROOT.glob(f"*/{kind}/*.body"))


def _name(path: Path) -> str:
    return f"{path.parts[-3]}-{path.stem}"


def _columns(path: Path) -> Columns:
    options = path.with_suffix(".columns")
    return Columns(**json.loads(options.read_text())) if options.exists() else Columns()


def _dense(features: Floats | SparseRows) -> Floats:
    if not isinstance(features, SparseRows):
        return features
    dense = np.full(features.shape, np.nan, dtype=np.float32)
    for row in range(len(dense)):
        cells = slice(features.offsets[row], features.offsets[row + 1])
        dense[row, features.columns[cells]] = features.values[cells]
    return dense


@pytest.mark.parametrize("body", _cases("valid"), ids=_name)
def test_valid_body_decodes_to_the_expected_records(body: Path) -> None:
    """C-072: every record, in order, its cells rounded to 32 bits, and what is missing as NaN."""
    expected = json.loads(body.with_suffix(".json").read_text())
    if isinstance(expected, list):
        expected = {"features": expected}

    batch = codecs.decoder(CONTENT_TYPES[body.parts[-3]])(body.read_bytes(), _columns(body))

    found = {
        "features": _dense(batch.features),
        "labels": batch.labels,
        "weights": batch.weights,
        "query_ids": batch.query_ids,
    }
    assert {name for name, values in found.items() if values is not None} == set(expected)
    for name, values in expected.items():
        dtype = np.int64 if name == "query_ids" else np.float32
        np.testing.assert_array_equal(found[name], np.array(values, dtype=dtype), strict=True)


@pytest.mark.parametrize("body", _cases("invalid"), ids=_name)
def test_invalid_body_is_refused_with_the_place_of_the_fault(body: Path) -> None:
    """C-057: where the fault is and what is accepted, and nothing of the payload."""
    decode = codecs.decoder(CONTENT_TYPES[body.parts[-3]])

    with pytest.raises(MalformedPayloadError) as caught:
        decode(body.read_bytes(), _columns(body))

    assert caught.value.message == body.with_suffix(".error").read_text().rstrip("\n")


def test_the_corpus_is_there() -> None:
    """An empty directory would pass every test above."""
    for name in CONTENT_TYPES:
        assert len(list(ROOT.glob(f"{name}/valid/*.body"))) > 7
        assert len(list(ROOT.glob(f"{name}/invalid/*.body"))) > 14


def test_every_expectation_has_its_body() -> None:
    """A body that was renamed would take its expectation out of the tests."""
    for suffix in (".json", ".error", ".columns"):
        for path in ROOT.glob(f"*/*valid/*{suffix}"):
            assert path.with_suffix(".body").exists(), path
