"""Properties of every codec for any bytes; the single cases are in `tests/corpus`."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from container import codecs
from container.codecs.recordio.record_message import record_class
from container.codecs.records import Batch, Columns, Floats, SparseRows
from container.errors import MalformedPayloadError

CORPUS = Path(__file__).parents[3] / "corpus"
FORMATS = {
    "text/csv": "csv",
    "text/libsvm": "libsvm",
    "application/json": "json",
    "application/jsonlines": "jsonlines",
    "application/x-npy": "npy",
    "application/x-npz": "npz",
    "application/x-parquet": "parquet",
    "application/x-recordio-protobuf": "recordio",
}
JOINABLE = ["text/csv", "text/libsvm", "application/jsonlines", "application/x-recordio-protobuf"]
BINARY = ["application/x-npy", "application/x-npz", "application/x-parquet"]
EVERY_TYPE = pytest.mark.parametrize("content_type", FORMATS)

columns_of_any_kind = st.builds(
    Columns,
    label_size=st.sampled_from([0, 0, 1]),
    has_weight=st.booleans(),
    n_features=st.sampled_from([None, 1, 2, 3]),
    libsvm_base=st.sampled_from([0, 1, None]),
)
numbers = st.floats(width=32, allow_infinity=False, allow_subnormal=True)
matrices = npst.arrays(
    np.float32,
    npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=5),
    elements=numbers,
)


def bodies(content_type: str, kind: str = "valid") -> list[bytes]:
    files = sorted(CORPUS.glob(f"{FORMATS[content_type]}/{kind}/*.body"))
    assert files
    return [file.read_bytes() for file in files]


@st.composite
def spoilt(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """A body of the corpus with a few bytes changed, taken out, put in, or from another body."""
    body = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(body)))
        length = draw(st.integers(0, 8))
        other = draw(st.sampled_from(originals))
        place = draw(st.integers(0, len(other)))
        new = draw(st.one_of(st.binary(max_size=4), st.just(other[place : place + 16])))
        body = body[:start] + new + body[start + length :]
    return body


def outcome(content_type: str, body: bytes, columns: Columns) -> Batch | None:
    """The batch, which is what it should be in itself; or None for a body that is refused."""
    try:
        batch = codecs.decoder(content_type)(body, columns)
    except MalformedPayloadError as error:
        assert error.problem  # noqa: PT017  (that it is refused is one of two good outcomes)
        return None
    check(batch, columns)
    return batch


def check(batch: Batch, columns: Columns) -> None:
    features = batch.features
    if isinstance(features, SparseRows):
        assert features.offsets.dtype == np.int64
        assert features.offsets[0] == 0
        assert features.offsets[-1] == len(features.columns) == len(features.values)
        assert features.columns.dtype == np.int32
        for start, end in zip(features.offsets[:-1], features.offsets[1:], strict=True):
            row = features.columns[start:end]
            assert (np.diff(row) > 0).all()
            assert not len(row) or 0 <= row[0] <= row[-1] < features.n_columns
        values = features.values
        assert columns.n_features is None or batch.n_features <= columns.n_features
    else:
        assert features.flags.c_contiguous
        assert columns.n_features in (None, batch.n_features)
        values = features
    assert batch.n_rows > 0
    for array in (values, batch.labels, batch.weights):
        assert array is None or (array.dtype == np.float32 and not np.isinf(array).any())
    for array in (batch.labels, batch.weights):
        assert array is None or array.shape == (batch.n_rows,)
    if columns.label_size:
        assert batch.labels is not None


def records(batch: Batch) -> list[tuple[list[int], bytes, float | None, float | None]]:
    """Every record: its columns and their values bit by bit, its label and its weight."""
    features = batch.features
    rows = []
    for index in range(batch.n_rows):
        if isinstance(features, SparseRows):
            cells = slice(features.offsets[index], features.offsets[index + 1])
            columns, values = features.columns[cells].tolist(), features.values[cells]
        else:
            columns, values = list(range(batch.n_features)), features[index]
        # Missing is missing, whatever the bits of the NaN.
        values = np.where(np.isnan(values), np.float32(np.nan), values)
        label = None if batch.labels is None else float(batch.labels[index])
        weight = None if batch.weights is None else float(batch.weights[index])
        rows.append((columns, values.tobytes(), label, weight))
    return rows


@EVERY_TYPE
@given(data=st.data())
def test_decode_of_any_bytes_is_a_batch_or_a_refusal(
    content_type: str, data: st.DataObject
) -> None:
    """C-057: nothing else comes out of a decoder, whatever goes in."""
    body = data.draw(st.one_of(st.binary(), st.text().map(str.encode)))

    outcome(content_type, body, data.draw(columns_of_any_kind))


@EVERY_TYPE
@given(data=st.data())
def test_decode_of_a_spoilt_body_is_a_batch_or_a_refusal(
    content_type: str, data: st.DataObject
) -> None:
    """C-057: the same for what looks right at first."""
    body = data.draw(spoilt(bodies(content_type)))

    outcome(content_type, body, data.draw(columns_of_any_kind))


@pytest.mark.parametrize("content_type", JOINABLE)
@given(data=st.data())
def test_joined_bodies_are_their_records_one_after_the_other(
    content_type: str, data: st.DataObject
) -> None:
    """C-072: batch transform cuts a file anywhere between records and gets the same answers."""
    originals = [body.rstrip(b"\r\n") + b"\n" for body in bodies(content_type)]
    if content_type == "application/x-recordio-protobuf":
        originals = bodies(content_type)
    first, second = data.draw(st.tuples(*[st.sampled_from(originals)] * 2))
    columns = Columns(
        n_features=data.draw(st.sampled_from([1, 2, 3, 4, 5])),
        libsvm_base=data.draw(st.sampled_from([0, 1])),  # a body that decides is not its parts
    )

    parts = [outcome(content_type, body, columns) for body in (first, second)]
    whole = outcome(content_type, first + second, columns)

    if None in parts or whole is None:
        # Refused for what is in a part; or for dense and sparse records in one body, a delimiter
        # that is not the first line's, or a byte order mark in the middle.
        assert whole is None
        layouts = {type(part.features) for part in parts if part is not None}
        is_csv = content_type == "text/csv"
        assert None in parts or len(layouts) > 1 or is_csv or second.startswith(b"\xef\xbb\xbf")
    else:
        assert records(whole) == [row for part in parts if part for row in records(part)]


@pytest.mark.parametrize("content_type", BINARY)
@given(data=st.data())
def test_truncated_body_is_refused(content_type: str, data: st.DataObject) -> None:
    """C-057: half a file is no file, wherever it ends."""
    body = data.draw(st.sampled_from(bodies(content_type)))
    length = data.draw(st.integers(0, len(body) - 1))

    assert outcome(content_type, body[:length], Columns()) is None


@given(data=st.data())
def test_truncated_recordio_is_refused_but_between_records(data: st.DataObject) -> None:
    """C-057: a frame is there as a whole or refused."""
    frame = b"\x0a\x23\xd7\xce"
    body = data.draw(st.sampled_from(bodies("application/x-recordio-protobuf")))
    length = data.draw(st.integers(0, len(body) - 1))

    found = outcome("application/x-recordio-protobuf", body[:length], Columns())

    is_between = length > 0 and body[length : length + 4] == frame
    assert (found is not None) == is_between


@given(values=matrices)
@pytest.mark.parametrize("content_type", ["text/csv", "application/x-npy"])
def test_what_is_encoded_decodes_to_the_same_numbers(content_type: str, values: Floats) -> None:
    """C-093: what one container of a pipeline answers, the next one reads, to the last bit."""
    found = outcome(content_type, codecs.encode(values, content_type), Columns())

    assert found is not None
    np.testing.assert_array_equal(found.features, values)


@given(values=matrices)
@pytest.mark.parametrize("accept", ["application/json", "application/jsonlines"])
def test_scores_in_json_are_the_numbers_themselves(accept: str, values: Floats) -> None:
    """C-098: one object a record; any reader of JSON gets every 32-bit float back."""
    text = codecs.encode(values, accept)

    if accept == "application/json":
        found = json.loads(text)["predictions"]
    else:
        found = [json.loads(line) for line in text.splitlines()]
    assert all(set(record) == {"score"} for record in found)
    scores = np.array([record["score"] for record in found], dtype=np.float32)
    np.testing.assert_array_equal(scores, values)


@given(values=matrices)
def test_scores_in_recordio_are_the_numbers_themselves(values: Floats) -> None:
    """Every record is a frame of its own, whose label holds a float32 tensor."""
    body = codecs.encode(values, "application/x-recordio-protobuf")

    size = len(body) // len(values)
    for number, row in enumerate(values):
        frame = body[number * size : (number + 1) * size]
        length = int.from_bytes(frame[4:8], "little")
        message = record_class().FromString(frame[8 : 8 + length])
        np.testing.assert_array_equal(message.label["score"].float32_tensor.values[:], row)


def _as_csv(row: list[float]) -> str:
    return ",".join("" if np.isnan(cell) else repr(cell) for cell in row)


def _as_json(row: list[float]) -> str:
    return json.dumps([None if np.isnan(cell) else cell for cell in row])


def _as_object(row: list[float]) -> str:
    return f'{{"features": {{"values": {_as_json(row)}}}}}'


def _instances(rows: list[list[float]]) -> str:
    return '{"instances": [' + ",".join(map(_as_json, rows)) + "]}"


WRITERS: dict[str, Callable[[list[list[float]]], str]] = {
    "text/csv": lambda rows: "\n".join(map(_as_csv, rows)),
    "application/jsonlines": lambda rows: "\r\n".join(map(_as_object, rows)),
    "application/json": _instances,
}


@pytest.mark.parametrize("content_type", WRITERS)
@given(values=matrices.filter(lambda values: values.shape[1] > 1))
def test_records_as_python_writes_them_are_read_exactly(content_type: str, values: Floats) -> None:
    """C-072: the 32-bit float that was written, NaN where a cell is empty or null; and the same
    for a record alone."""
    write = WRITERS[content_type]

    whole = outcome(content_type, write(values.tolist()).encode(), Columns())
    alone = outcome(content_type, write(values[-1:].tolist()).encode(), Columns())

    assert whole is not None
    assert alone is not None
    np.testing.assert_array_equal(whole.features, values)
    assert records(whole)[-1] == records(alone)[0]
