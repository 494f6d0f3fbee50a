"""Defaults of a missing input_fn and output_fn."""

import io
import json
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from container import content_types
from container.errors import MalformedPayloadError, UnsupportedContentTypeError
from serve.user_code import default_codecs


def _decode(body: bytes, content_type: str) -> Any:
    return default_codecs.decode(body, content_types.parse(content_type))


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _npy_claiming(shape: tuple[int, ...]) -> bytes:
    """An NPY body whose header announces more bytes than follow."""
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + bytes(16)


@pytest.mark.parametrize("body", [b"1,2.5\n", b"1,2.5"])
def test_csv_is_a_table_also_when_it_has_one_row(body: bytes) -> None:
    """Has two dimensions for one row, unlike the toolkit's."""
    data = _decode(body, "text/csv; charset=utf-8")

    assert data.dtype == np.float32
    assert data.tolist() == [[1.0, 2.5]]


def test_csv_of_text_is_refused_with_its_place() -> None:
    """Names the position of text in CSV, for which a script has input_fn (C-057)."""
    with pytest.raises(MalformedPayloadError, match="line 1, column 2"):
        _decode(b"1,red\n", "text/csv")


def test_label_column_is_dropped_when_declared() -> None:
    """Drops the label column, as without a script."""
    assert _decode(b"9,1,2\n", "text/csv; label_size=1").tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("document", "dtype"),
    [
        ([[1, 2], [3, 4]], "int64"),
        ([[1.5, 2], [3, 4]], "float64"),
        ([1, 2, 3], "int64"),
        ([[[0.5]], [[1.5]]], "float64"),
        (["a", "b"], "<U1"),
        (7, "int64"),
    ],
)
def test_json_array_is_an_array_of_its_own_shape(document: Any, dtype: str) -> None:
    """Keeps shape and type of a JSON array, as the toolkit does."""
    data = _decode(json.dumps(document).encode(), "application/json")

    assert data.dtype == dtype
    assert data.tolist() == document


def test_json_null_is_a_missing_value() -> None:
    """Reads null as NaN, unlike the toolkit."""
    np.testing.assert_array_equal(_decode(b"[[1,null]]", "application/json"), [[1, np.nan]])


@pytest.mark.parametrize("body", [b"[[1,NaN]]", b"\xef\xbb\xbf[[1, null]]"])
def test_json_as_python_and_windows_write_it_is_read(body: bytes) -> None:
    """Reads NaN, as `json.dumps` writes it, and a byte order mark."""
    np.testing.assert_array_equal(_decode(body, "application/json"), [[1, np.nan]])


@pytest.mark.parametrize(
    "body", [b"", b"[1,", b"[nan]", b"[[1],[2,3]]", b'[[1],"a",{}]', b"[" * 100_000, b"\xff"]
)
def test_json_that_is_no_array_is_refused(body: bytes) -> None:
    """Answers 400, never 500 (C-057)."""
    with pytest.raises(MalformedPayloadError):
        _decode(body, "application/json")


@pytest.mark.parametrize(
    "body", [b'{"instances": [[1, 2]]}', b'{"features": [1, 2]}', b'[{"features": [1, 2]}]']
)
def test_json_objects_are_records_as_without_a_script(body: bytes) -> None:
    """Reads JSON objects as records, as without a script."""
    data = _decode(body, "application/json")

    assert data.dtype == np.float32
    assert data.tolist() == [[1.0, 2.0]]


def test_npy_is_an_array_of_its_own_shape() -> None:
    """As in the toolkit."""
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)

    data = _decode(_npy(array), "application/x-npy")

    assert data.dtype == array.dtype
    np.testing.assert_array_equal(data, array)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        _npy(np.arange(9))[:-1],
        _npy(np.array([{"an": "object"}], dtype=object)),
        _npy_claiming((10**6,)),
        _npy_claiming((10**14,)),
        _npy_claiming((-1,)),
        b"PK\x03\x04" + b"\0" * 30,
    ],
)
def test_npy_that_is_broken_or_pickled_is_refused(body: bytes) -> None:
    """Refuses truncated arrays, arrays of objects and headers with a false size."""
    with pytest.raises(MalformedPayloadError, match="not an NPY array"):
        _decode(body, "application/x-npy")


def test_npz_is_a_sparse_matrix() -> None:
    """As in the toolkit."""
    matrix = sparse.csr_matrix(np.array([[0, 1.5], [2, 0]]))
    stream = io.BytesIO()
    sparse.save_npz(stream, matrix)

    data = _decode(stream.getvalue(), "application/x-npz")

    assert sparse.issparse(data)
    np.testing.assert_array_equal(data.toarray(), matrix.toarray())


def test_other_formats_of_the_container_are_read_too() -> None:
    """Reads sparse rows as a SciPy matrix."""
    data = _decode(b"1 0:1.5 2:3\n", "text/libsvm")

    assert data.format == "csr"
    assert data.toarray().tolist() == [[1.5, 0.0, 3.0]]


def test_unknown_format_is_refused_with_all_that_are_known() -> None:
    """Lists the types of the toolkit and of the container (C-054)."""
    with pytest.raises(UnsupportedContentTypeError) as caught:
        _decode(b"x", "image/png")

    for name in ("application/json", "application/x-npy", "text/csv", "text/libsvm"):
        assert name in caught.value.message


@pytest.mark.parametrize(
    "prediction",
    [
        np.array([0.1, 0.2], dtype=np.float32),
        np.array([[1, 2], [3, 4]]),
        np.asfortranarray(np.array([[1, 2], [3, 4]])),
        [[1, 2], ["a", None]],
        {"label": np.array([1]), "score": np.float64(0.5), 3: [np.int64(7)]},
        "text",
        0.5,
    ],
)
def test_json_is_the_prediction_and_nothing_around_it(prediction: Any) -> None:
    """Writes what `json.dumps` writes of `tolist`, as the toolkit does."""
    expected = json.dumps(prediction, default=lambda array: array.tolist())

    written = json.loads(default_codecs.encode(prediction, "application/json"))

    if isinstance(prediction, np.ndarray):
        np.testing.assert_allclose(written, json.loads(expected), rtol=1e-7)
    else:
        assert written == json.loads(expected)


def test_json_has_null_for_what_it_cannot_say() -> None:
    """Writes null for NaN, which JSON does not have."""
    assert default_codecs.encode([float("nan"), 1.0], "application/json") == b"[null,1.0]"


def test_json_of_something_else_is_an_error() -> None:
    """Raises an error for a value that JSON cannot hold."""
    with pytest.raises(TypeError, match="not JSON serializable: object"):
        default_codecs.encode(object(), "application/json")


@pytest.mark.parametrize(
    ("prediction", "text"),
    [
        (np.array([0.1, 0.2], dtype=np.float32), "0.1\n0.2\n"),
        (np.array([[1.5, 2], [3, 4]]), "1.5,2.0\n3.0,4.0\n"),
        (np.array([1, 2]), "1\n2\n"),
        ([[1, 2]], "1,2\n"),
        (["a,b", 'say "x"'], '"a,b"\n"say ""x"""\n'),
        (0.25, "0.25\n"),
        ([float("nan")], "nan\n"),
        ([], ""),
    ],
)
def test_csv_has_one_line_a_record(prediction: Any, text: str) -> None:
    """Writes numbers as the toolkit does; quotes text with commas (C-072, C-073)."""
    assert default_codecs.encode(prediction, "text/csv").decode() == text


def test_csv_of_more_than_two_dimensions_is_an_error() -> None:
    """Refuses more than two dimensions, and names output_fn."""
    with pytest.raises(ValueError, match=r"shape \(1, 1, 1\) cannot be written as CSV"):
        default_codecs.encode([[[1]]], "text/csv")


def test_npy_can_be_read_by_numpy() -> None:
    """Writes NPY without pickle."""
    array = np.array([[0.5, 1.5]], dtype=np.float32)

    written = np.load(io.BytesIO(default_codecs.encode(array, "application/x-npy")))

    np.testing.assert_array_equal(written, array)


@pytest.mark.parametrize("media_type", ["text/csv", "application/x-npy"])
@pytest.mark.parametrize(
    "prediction", [{"a": [1, 2], "b": (3,)}, [{"a": 1}], {1, 2}, object(), [[1, None], ["a", {2}]]]
)
def test_what_is_no_array_is_json_only(media_type: str, prediction: Any) -> None:
    """Writes no dict into CSV; the log says what to do (C-053)."""
    with pytest.raises(TypeError, match=f"cannot be written as {media_type}: .* output_fn"):
        default_codecs.encode(prediction, media_type)


def test_csv_of_columns_of_different_types() -> None:
    """Writes columns of different types; None is an empty cell."""
    rows = np.array([["cat", 0.5, np.float32(0.25)], ["dog", None, True]], dtype=object)

    written = default_codecs.encode(rows, "text/csv").decode()

    assert written == "cat,0.5,0.25\ndog,,True\n"
