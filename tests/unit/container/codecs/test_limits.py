"""A small body that stands for a large one is refused before it is unpacked."""

import io
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from container import codecs
from container.codecs import npy_codec
from container.codecs.recordio.record_message import record_class
from container.codecs.records import MAX_CELLS, Columns, SparseRows
from container.errors import MalformedPayloadError

CSV, LIBSVM = "text/csv", "text/libsvm"
JSON, JSON_LINES = "application/json", "application/jsonlines"
NPY, NPZ = "application/x-npy", "application/x-npz"
PARQUET, RECORDIO = "application/x-parquet", "application/x-recordio-protobuf"
LITTLE = 8 * 2**20


def refusal(content_type: str, body: bytes, columns: Columns | None = None) -> str:
    """The message, once it is sure that hardly any memory was taken for it."""
    codecs.decoder(content_type)  # imports what it needs
    tracemalloc.start()
    try:
        with pytest.raises(MalformedPayloadError) as caught:
            codecs.decoder(content_type)(body, columns or Columns())
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()
    return caught.value.message


def npy_header(shape: str, descr: str = "|i1") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def zipped(chunks: list[bytes]) -> bytes:
    return archive_of(x=chunks)


def archive_of(**members: list[bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, chunks in members.items():
            with archive.open(f"{name}.npy", "w") as member:
                for chunk in chunks:
                    member.write(chunk)
    return stream.getvalue()


def npy(array: np.ndarray) -> list[bytes]:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return [stream.getvalue()]


def of_zeros(n: int) -> list[bytes]:
    """An array of `n` bytes."""
    return [npy_header(f"({n},)"), bytes(n)]


def test_npz_bomb_is_refused_by_its_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuses a decompression bomb, 30 KB for 30 MB, by its announced size."""
    monkeypatch.setattr(npy_codec, "MAX_UNPACKED_BYTES", 2**24)
    body = zipped([npy_header(f"({30 * 2**20}, 1)"), *[bytes(2**20)] * 30])
    assert len(body) < 2**16

    assert "unpacks to 3145" in refusal(NPZ, body)


def test_npz_is_not_unpacked_beyond_what_its_directory_says() -> None:
    """An announced size that lies is a limit all the same."""
    body = bytearray(zipped([npy_header("(1, 64)"), bytes(64), *[bytes(2**20)] * 64]))
    directory = body.rindex(b"PK\x01\x02")
    body[directory + 24 : directory + 28] = struct.pack("<I", len(npy_header("(1, 64)")) + 64)

    assert refusal(NPZ, bytes(body)) == (
        "the NPZ archive cannot be unpacked: it is damaged or encrypted; write it with numpy.savez"
    )


def test_npz_of_many_cells_is_refused_after_it_is_unpacked() -> None:
    """A byte a cell in the archive is four in a record."""
    body = zipped([npy_header(f"({MAX_CELLS // 32 + 1}, 32)"), *[bytes(2**20)] * 32, bytes(32)])

    with pytest.raises(MalformedPayloadError, match="unpacks to 1048577 records of 32 columns"):
        codecs.decoder(NPZ)(body, Columns())


def test_npz_of_empty_records_is_refused() -> None:
    """A sparse matrix says its number of records in eight bytes."""
    members = {
        "format": np.array("coo"),
        "shape": np.array([2**40, 2]),
        "row": np.array([0]),
        "col": np.array([0]),
        "data": np.array([1.0]),
    }
    stream = io.BytesIO()
    np.savez(stream, **members)

    assert "unpacks to 1099511627776 records of 0 columns" in refusal(NPZ, stream.getvalue())


@pytest.mark.parametrize(
    ("shape", "n_cells", "problem"),
    [
        ([2**20, 100], MAX_CELLS + 1, "array 'data' .* has 33554433 values; the limit is 33554432"),
        ([2**20, 2], 2**22, "has 4194304 stored values and 1048576 x 2 cells"),
    ],
)
@pytest.mark.parametrize("layout", ["csr", "csc", "coo"])
def test_npz_of_many_sparse_cells_is_refused_before_they_are_widened(
    layout: str, shape: list[int], n_cells: int, problem: str
) -> None:
    """A cell of three bytes takes 20 to 40 in 32 bits: 280 kB would have become 4 GB."""
    cells = of_zeros(n_cells)
    indices = {"row": cells, "col": cells} if layout == "coo" else {"indices": cells}
    body = archive_of(
        format=npy(np.array(layout)),
        shape=npy(np.array(shape)),
        data=cells,
        indptr=npy(np.array([0, n_cells])),
        **indices,
    )
    assert len(body) < 2**17

    tracemalloc.start()
    with pytest.raises(MalformedPayloadError, match=problem):
        codecs.decoder(NPZ)(body, Columns())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 4 * n_cells + LITTLE  # as unpacked, the last array twice


def test_npz_of_sparse_cells_takes_little_beyond_them() -> None:
    """Rows, columns and values in 32 bits each, and marks of a byte that say if they are sorted."""
    n_cells = 2**20
    body = archive_of(
        format=npy(np.array("csr")),
        shape=npy(np.array([n_cells // 64, 64])),
        data=of_zeros(n_cells),
        indices=npy(np.tile(np.arange(64, dtype=np.uint8), n_cells // 64)),
        indptr=npy(np.arange(0, n_cells + 1, 64)),
    )

    tracemalloc.start()
    batch = codecs.decoder(NPZ)(body, Columns())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert batch.features.shape == (n_cells // 64, 64)
    assert peak < 24 * n_cells


@pytest.mark.parametrize("n_spaces", range(4))
def test_npz_of_sparse_cells_that_are_not_aligned_is_read(n_spaces: int) -> None:
    """XGBoost refuses such arrays; where they begin depends on the length of a header."""
    header = b"{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }" + b" " * n_spaces
    indices = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + struct.pack("<2i", 0, 5)
    body = archive_of(
        format=npy(np.array("csr")),
        shape=npy(np.array([1, 28])),
        data=npy(np.array([1.5, 2.5])),
        indices=[indices],
        indptr=npy(np.array([0, 2])),
    )

    features = codecs.decoder(NPZ)(body, Columns()).features

    assert isinstance(features, SparseRows)
    assert features.columns.tolist() == [0, 5]
    for array in (features.offsets, features.columns, features.values):
        assert array.flags.aligned


def test_npy_shape_is_only_believed_with_its_data() -> None:
    """No memory is taken for what a header announces."""
    body = npy_header("(1099511627776, 1099511627776)", "<f8") + bytes(16)

    assert "and 16 follow" in refusal(NPY, body)


def test_npy_shape_of_other_width_is_refused_before_it_is_copied() -> None:
    """Eight bits a cell would become 32."""
    body = npy_header(f"(1, {2**24})") + bytes(2**24)

    assert refusal(NPY, body, Columns(n_features=28)) == (
        "the records have 16777216 columns where 28 are expected"
    )


def test_parquet_of_long_runs_is_refused_by_its_footer() -> None:
    """Refuses a decompression bomb of run-length coding by the number of values in its footer."""
    table = pa.table({f"c{i}": np.zeros(100_000) for i in range(400)})
    stream = io.BytesIO()
    pq.write_table(table, stream)
    assert len(stream.getvalue()) < 2**20

    assert "unpacks to 100000 records of 400 columns" in refusal(PARQUET, stream.getvalue())


def test_parquet_of_other_width_is_refused_before_it_is_read() -> None:
    """The footer says how many columns there are."""
    stream = io.BytesIO()
    pq.write_table(pa.table({f"c{i}": np.zeros(100_000) for i in range(20)}), stream)

    assert refusal(PARQUET, stream.getvalue(), Columns(n_features=28)) == (
        "the records have 20 columns where 28 are expected"
    )


def test_recordio_length_is_only_believed_with_its_record() -> None:
    """A frame announces up to 4 GB."""
    body = struct.pack("<II", 0xCED7230A, 2**32 - 4) + bytes(16)

    assert refusal(RECORDIO, body) == (
        "record 1: the frame is truncated: it announces 4294967292 bytes and 16 follow"
    )


@pytest.mark.parametrize(
    ("n_keys", "n_values", "problem"),
    [
        (0, 2**21, "the record has 2097152 values where 28 are expected"),
        (2**21, 2**21, "the record has 2097152 values for 28 columns"),
        (2**21, 1, "the record has 2097152 keys and 1 value"),
        (1, 2**21, "the record has 1 key and 2097152 values"),
    ],
)
def test_recordio_of_other_width_is_refused_before_its_numbers_are_taken_out(
    n_keys: int, n_values: int, problem: str
) -> None:
    """A byte is an integer, of which Python makes 36."""
    record = record_class()()
    record.features["values"].int32_tensor.values.extend([1] * n_values)
    record.features["values"].int32_tensor.keys.extend([1] * n_keys)
    payload = record.SerializeToString()
    body = struct.pack("<II", 0xCED7230A, len(payload)) + payload + bytes(-len(payload) % 4)
    assert len(body) < 2**23

    assert refusal(RECORDIO, body, Columns(n_features=28)) == f"record 1: {problem}"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/libsvm", b"1 0:1 2147483646:1\n"),
        ("application/json", b'[{"features": {"keys": [2147483646], "values": [1]}}]'),
        ("application/jsonlines", b'{"features": {"keys": [2147483646], "values": [1]}}'),
    ],
)
def test_sparse_column_beyond_the_model_is_refused(content_type: str, body: bytes) -> None:
    """Refuses a column number of ten digits: a dense row would take gigabytes."""
    assert "not in 0 to 27" in refusal(content_type, body, Columns(n_features=28))


DIGITS = b"1" * 2**20


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (CSV, DIGITS + b"x"),
        (CSV, b"1e" + DIGITS + b"x"),
        (CSV, b"1,.%bx" % DIGITS),
        (CSV, DIGITS),  # a number, which does not fit
        (LIBSVM, DIGITS + b"x"),
        (LIBSVM, DIGITS + b":1"),
        (LIBSVM, b"%b:%bx" % (DIGITS, DIGITS)),
        (LIBSVM, b"1 0:%bx" % DIGITS),
        (LIBSVM, b"1 0:1e%b:" % DIGITS),
        (JSON, b"[[%bx]]" % DIGITS),
        (JSON, b"[[%b]]" % DIGITS),
    ],
    ids=lambda value: value[:12] if isinstance(value, bytes) else value,
)
def test_number_of_a_million_digits_is_refused_at_once(content_type: str, body: bytes) -> None:
    """Trying every split of 8,000 digits held a worker for 3.7 s; of these, for hours."""
    started = time.process_time()

    with pytest.raises(MalformedPayloadError):
        codecs.decoder(content_type)(body, Columns())

    assert time.process_time() - started < 1


@pytest.mark.parametrize("content_type", [JSON, JSON_LINES])
@pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"features":', b"}")])
def test_json_that_nests_deep_is_refused(content_type: str, start: bytes, end: bytes) -> None:
    """Each parser has a depth limit of its own; the last one reads integers of 100 bits."""
    for depth in (500, 1000, 1024, 1025, 100_000):
        for number in (b"1", b"1" * 30):
            with pytest.raises(MalformedPayloadError):
                codecs.decoder(content_type)(start * depth + number + end * depth, Columns())
