"""Promises of docs/formats.md that no other test shows for every format."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from container import codecs, content_types
from container.codecs.records import Batch, Columns, SparseRows
from container.errors import MalformedPayloadError

PAGE = (Path(__file__).parents[4] / "docs" / "formats.md").read_text()
ROWS = [[1.0, 2.0, 0.5], [0.0, 3.0, 4.0]]


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _npz(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, array)
    return stream.getvalue()


def _parquet(array: np.ndarray) -> bytes:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    stream = io.BytesIO()
    table = pa.table({f"c{i}": column for i, column in enumerate(array.T)})
    parquet.write_table(table, stream)
    return stream.getvalue()


def _csv(rows: np.ndarray) -> bytes:
    return "".join(",".join(map(str, row)) + "\n" for row in rows.tolist()).encode()


def _json_lines(rows: np.ndarray) -> bytes:
    return b"".join(json.dumps({"features": row}).encode() + b"\n" for row in rows.tolist())


DENSE = {
    "text/csv": _csv,
    "application/json": lambda rows: json.dumps({"instances": rows.tolist()}).encode(),
    "application/jsonlines": _json_lines,
    "application/x-npy": _npy,
    "application/x-npz": _npz,
    "application/x-parquet": _parquet,
}


def decode(body: bytes, content_type: str, columns: Columns = Columns()) -> Batch:  # noqa: B008
    return codecs.decoder(content_type)(body, columns)


def _table(heading: str) -> list[list[str]]:
    """The quoted names in the first cells of a table."""
    section = PAGE.split(f"## {heading}\n\n")[1].split("\n\n")[0]
    return [re.findall("`([^`]+)`", line.split("|")[1]) for line in section.splitlines()[2:]]


def test_table_of_requests_has_every_name_of_every_format() -> None:
    """An alias that the page names is taken, and one that is taken is on the page."""
    names = _table("Requests")

    assert {first for first, *_ in names} == set(codecs.REQUEST_TYPES)
    for first, *aliases in names:
        assert [content_types.parse(alias).name for alias in aliases] == [first] * len(aliases)
        assert sorted(content_types.OTHER_NAMES[first]) == sorted(aliases)


@pytest.mark.parametrize("content_type", DENSE)
def test_label_of_dense_records_is_split_off(content_type: str) -> None:
    """`label_size=1`: the first column is the label."""
    body = DENSE[content_type](np.array(ROWS))

    batch = decode(body, content_type, Columns(label_size=1, n_features=2))

    np.testing.assert_array_equal(batch.features, [[2, 0.5], [3, 4]])
    np.testing.assert_array_equal(batch.labels, [1, 0])


@pytest.mark.parametrize("content_type", DENSE)
@pytest.mark.parametrize("n_features", [2, 4])
def test_dense_records_are_as_wide_as_the_model(content_type: str, n_features: int) -> None:
    """A missing column is an error, as one too many is."""
    body = DENSE[content_type](np.array(ROWS))

    with pytest.raises(MalformedPayloadError, match=f"3 .* where {n_features} are expected"):
        decode(body, content_type, Columns(n_features=n_features))


@pytest.mark.parametrize("content_type", ["application/x-npy", "application/x-npz"])
def test_sparse_or_one_record_of_numpy(content_type: str) -> None:
    """One record may have one dimension; a sparse matrix may be narrower than the model."""
    if content_type == content_types.NPY:
        np.testing.assert_array_equal(
            decode(_npy(np.array([1, 2])), content_type).features, [[1, 2]]
        )
        return
    for layout in ("csr", "csc", "coo"):
        stream = io.BytesIO()
        sparse.save_npz(stream, sparse.coo_matrix([[0, 5], [7, 0]]).asformat(layout))
        features = decode(stream.getvalue(), content_type, Columns(n_features=9)).features
        assert isinstance(features, SparseRows)
        assert features.columns.tolist() == [1, 0]


@pytest.mark.parametrize("content_type", DENSE)
@pytest.mark.parametrize("number", [np.inf, -np.inf, 1e39])
def test_number_that_is_infinite_in_32_bits_is_refused(content_type: str, number: float) -> None:
    """In every format, rather than read as something else."""
    body = DENSE[content_type](np.array([[1, 2], [3, number]]))

    with pytest.raises(MalformedPayloadError, match=r"infinit|does not fit"):
        decode(body, content_type)


@pytest.mark.parametrize("content_type", DENSE)
def test_nan_is_a_missing_value(content_type: str) -> None:
    """As NumPy, pandas, and `json.dumps` write it."""
    body = DENSE[content_type](np.array([[1, np.nan], [3, 4]]))

    np.testing.assert_array_equal(decode(body, content_type).features, [[1, np.nan], [3, 4]])


@pytest.mark.parametrize("content_type", DENSE)
def test_booleans_are_1_and_0(content_type: str) -> None:
    """As Python and NumPy write them."""
    body = DENSE[content_type](np.array([[True, False], [False, True]]))

    np.testing.assert_array_equal(decode(body, content_type).features, [[1, 0], [0, 1]])


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        ("text/csv", "1,2\n"),
        ("text/libsvm", "0:1 1:2\n"),
        ("application/json", "[[1, 2]]"),
        ("application/jsonlines", "[1, 2]\n"),
    ],
)
def test_text_may_begin_with_a_byte_order_mark(content_type: str, text: str) -> None:
    """UTF-8 with a mark is UTF-8; UTF-16 is refused by its name."""
    assert decode(text.encode("utf-8-sig"), content_type).n_features == 2

    with pytest.raises(MalformedPayloadError, match="this is UTF-16 text"):
        decode(text.encode("utf-16"), content_type)


@pytest.mark.parametrize("wrap", ["{}", '{{"data": {}}}'])
@pytest.mark.parametrize(
    "record",
    ["[1, 2, null]", '{"features": [1, 2, null]}', '{"features": {"values": [1, 2, null]}}'],
)
def test_record_of_json_has_the_forms_of_the_page(record: str, wrap: str) -> None:
    """Each also within `data`; alone, in an array, among instances, and as a line."""
    record = wrap.format(record)
    expected = [[1, 2, np.nan]]

    for body in (record, f"[{record}]", f'{{"instances": [{record}]}}'):
        np.testing.assert_array_equal(decode(body.encode(), "application/json").features, expected)
    lines = decode(f"{record}\n{record}\n".encode(), "application/jsonlines")
    np.testing.assert_array_equal(lines.features, expected * 2)


def _row(n_columns: int, end: str = "\n") -> str:
    return ",".join(["1"] * n_columns) + end


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("age,income\n" + _row(28), "text/csv"),
        (_row(28) * 2 + '1,1,1,1,1,1,"1,5"' + _row(21)[1:], "text/csv"),
        (_row(28, ",\n") * 2, "text/csv"),
        ("PK\x03\x04" + 26 * "\0" + "[Content_Types].xml", "text/csv"),
        (
            json.dumps({"instances": [[0] * 28] * 4 + [{"features": [0, 1, "1.5"]}]}),
            "application/json",
        ),
    ],
)
def test_the_page_of_the_formats_quotes_real_refusals(body: str, content_type: str) -> None:
    """Documentation that must match the code."""
    examples = PAGE.split("```")[1].splitlines()

    with pytest.raises(MalformedPayloadError) as caught:
        decode(body.encode(), content_type, Columns(n_features=28))

    assert caught.value.message in examples
