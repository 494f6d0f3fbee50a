"""Writes the bodies of the binary formats; their expectations are written by hand beside them.

    python tests/corpus/binary_bodies.py

They are made by what users make them with, NumPy, SciPy and pyarrow, and spoilt by hand. RecordIO
is put together byte by byte from AWS's description of the format, not by the product's encoder.
"""

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from benchmarks.fuzz import thrift

ROOT = Path(__file__).parent
MATRIX = np.array([[1, 2.5], [3, np.nan]])
HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }"


def npy(array: Any, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(array), version=version)
    return stream.getvalue()


def npy_of(header: str, data: bytes = struct.pack("<2f", 1, 2), version: bytes = b"\1\0") -> bytes:
    text = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def npz(method: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members.items():
            # A date of its own would make another file every time.
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            archive.writestr(info, data, compress_type=method)
    return stream.getvalue()


def scipy_npz(matrix: Any, **changes: Any) -> bytes:
    """Output of `scipy.sparse.save_npz` with members changed, or left out where None."""
    stream = io.BytesIO()
    sparse.save_npz(stream, matrix, compressed=False)
    arrays = {**np.load(io.BytesIO(stream.getvalue())), **changes}
    return npz(**{name: npy(array) for name, array in arrays.items() if array is not None})


def parquet(
    columns: dict[str, Any],
    *,
    names: list[str] | None = None,
    pandas: bytes | None = None,
    **options: Any,
) -> bytes:
    table = pa.table(columns)
    if names is not None:  # a dictionary has no name twice
        table = table.rename_columns(names)
    if pandas is not None:
        table = table.replace_schema_metadata({b"pandas": pandas})
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def with_footer(body: bytes, change: Callable[[thrift.Struct], None]) -> bytes:
    """A Parquet file whose footer is changed, and everything before it left as it is."""
    (length,) = struct.unpack("<I", body[-8:-4])
    footer, _ = thrift.read_struct(body[-8 - length : -8])
    change(footer)
    written = thrift.write_struct(footer)
    return body[: -8 - length] + written + struct.pack("<I", len(written)) + b"PAR1"


def require_last_column(footer: thrift.Struct) -> None:
    """Say that its values are REQUIRED (0), where their histograms are of OPTIONAL ones (1)."""
    column = thrift.find(footer, 2).values[-1]
    next(field for field in column if field.number == 3).value = 0


def drop_last_column(footer: thrift.Struct) -> None:
    """Of the first row group; the schema keeps it."""
    group = thrift.find(footer, 4).values[0]
    del thrift.find(group, 1).values[-1]


def index_of_pandas(*columns: Any) -> bytes:
    """Metadata of `DataFrame.to_parquet` about a frame's index, without its other keys."""
    return json.dumps({"index_columns": columns, "columns": []}).encode()


def message(number: int, payload: bytes) -> bytes:
    """A field of protobuf that has a length; both numbers must be below 128 and 16."""
    assert len(payload) < 128
    return bytes([number << 3 | 2, len(payload)]) + payload


def varints(*numbers: int) -> bytes:
    assert all(number < 128 for number in numbers)
    return bytes(numbers)


def tensor(kind: int, values: bytes, keys: bytes = b"", shape: bytes = b"") -> bytes:
    """A `Value`: 2 is float32, 3 float64, 7 int32, 9 bytes."""
    fields = message(1, values) if values else b""
    fields += message(2, keys) if keys else b""
    return message(kind, fields + (message(3, shape) if shape else b""))


def entry(value: bytes, name: bytes = b"values") -> bytes:
    return message(1, name) + message(2, value)


def record(features: bytes, label: bytes = b"") -> bytes:
    return message(1, entry(features)) + (message(2, entry(label)) if label else b"")


def floats(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def doubles(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}d", *numbers)


def frames(*records: bytes) -> bytes:
    return b"".join(
        struct.pack("<II", 0xCED7230A, len(payload)) + payload + bytes(-len(payload) % 4)
        for payload in records
    )


def npy_bodies() -> dict[str, bytes]:
    return {
        "valid/float32": npy(MATRIX.astype("<f4")),
        "valid/float64": npy(MATRIX),
        "valid/big-endian": npy(MATRIX.astype(">f8")),
        "valid/fortran-order": npy(np.asfortranarray(MATRIX)),
        "valid/float16": npy(MATRIX.astype("<f2")),
        "valid/int8": npy(np.array([[-1, 2], [3, 127]], "i1")),
        "valid/big-endian-uint64": npy(np.array([[2**63, 2]], ">u8")),
        "valid/booleans": npy(np.array([[True, False]])),
        "valid/one-record-of-one-dimension": npy(np.array([1, 2.5, np.nan])),
        "valid/version-2": npy(MATRIX, (2, 0)),
        "valid/version-3": npy(MATRIX, (3, 0)),
        "valid/label": npy(np.array([[1, 7, 8], [0, 9, 10]])),
        "invalid/csv": b"1,2\n",
        "invalid/magic-alone": b"\x93NUMPY",
        "invalid/version-9": npy_of(HEADER, version=b"\x09\0"),
        "invalid/objects": npy(np.array([[1, "x"]], dtype=object)),
        "invalid/named-fields": npy(np.zeros(2, [("a", "f4")])),
        "invalid/complex": npy(np.array([[1j]])),
        "invalid/dates": npy(np.array([["2020-01-01"]], "M8[D]")),
        "invalid/text": npy(np.array([["1"]])),
        "invalid/no-dimension": npy(np.array(1.0)),
        "invalid/three-dimensions": npy(np.zeros((2, 2, 2))),
        "invalid/no-records": npy(np.zeros((0, 2))),
        "invalid/no-columns": npy(np.zeros((2, 0))),
        "invalid/infinite": npy(np.array([[1, 2], [np.inf, 3]])),
        "invalid/overflow": npy(np.array([[1, 2], [3, -1e39]])),
        "invalid/truncated-data": npy(MATRIX)[:-1],
        "invalid/data-too-long": npy(MATRIX) + b"\0",
        "invalid/truncated-header": npy(MATRIX)[:40],
        "invalid/header-length-lies": npy(MATRIX)[:8] + b"\xff\xff" + npy(MATRIX)[10:],
        "invalid/huge-shape": npy_of(HEADER.replace("(1, 2)", "(4294967296, 4294967296)")),
        "invalid/header-that-computes": npy_of(HEADER.replace("(1, 2)", "(1, 1+1)")),
        "invalid/header-with-another-key": npy_of(HEADER.replace("}", "'x': 1}")),
        "invalid/header-without-shape": npy_of("{'descr': '<f4', 'fortran_order': False}"),
        "invalid/header-with-a-key-twice": npy_of(
            HEADER.replace("'shape': (1, 2)", "'descr': 'i4'")
        ),
        "invalid/wider-than-expected": npy(np.zeros((2, 3))),
        "invalid/narrower-than-expected": npy(np.zeros(27)),
    }


def npz_bodies() -> dict[str, bytes]:
    matrix = sparse.csr_matrix(np.array([[0, 1.5, 0], [0, 0, 0], [2, 0, 3]]))
    empty = np.array([], dtype="i4")
    swapped = {"indices": np.array([1, 2, 0]), "data": np.array([1.5, 3, 2])}
    return {
        "valid/one-array": npz(arr_0=npy(MATRIX)),
        "valid/deflated": npz(zipfile.ZIP_DEFLATED, x=npy(MATRIX)),
        "valid/csr": scipy_npz(matrix),
        "valid/csc": scipy_npz(matrix.tocsc()),
        "valid/coo": scipy_npz(matrix.tocoo()),
        "valid/csr-unsorted": scipy_npz(matrix, **swapped),
        "valid/csr-int64-big-endian": scipy_npz(matrix, indices=matrix.indices.astype(">i8")),
        "valid/csr-uint64": scipy_npz(matrix, indices=matrix.indices.astype("u8")),
        "valid/csr-narrower-than-expected": scipy_npz(matrix),
        "valid/label": npz(x=npy(np.array([[1, 7, 8], [0, 9, 10]]))),
        "invalid/csv": b"1,2\n",
        "invalid/truncated": npz(x=npy(MATRIX))[:-30],
        "invalid/spoilt": npz(x=npy(MATRIX)).replace(struct.pack("<d", 2.5), struct.pack("<d", 2)),
        "invalid/no-arrays": npz(),
        "invalid/two-arrays": npz(a=npy(MATRIX), b=npy(MATRIX)),
        "invalid/seventeen-members": npz(**{f"x{i}": b"" for i in range(17)}),
        "invalid/lzma": npz(zipfile.ZIP_LZMA, x=npy(MATRIX)),
        "invalid/objects": npz(x=npy(np.array([[1, "x"]], dtype=object))),
        "invalid/overflow": npz(x=npy(np.array([[1e39]]))),
        "invalid/wider-than-expected": npz(x=npy(np.zeros((2, 3)))),
        "invalid/csr-wider-than-expected": scipy_npz(matrix),
        "invalid/csr-overflow": scipy_npz(matrix, data=np.array([1, 1e39, 2])),
        "invalid/csr-column-outside": scipy_npz(matrix, indices=np.array([1, 0, 3])),
        "invalid/csr-column-negative": scipy_npz(matrix, indices=np.array([-1, 0, 2])),
        # 32 bits of them would be columns of the matrix.
        "invalid/csr-column-of-33-bits": scipy_npz(matrix, indices=np.array([2**32 + 1, 0, 2])),
        "invalid/csr-column-of-64-bits": scipy_npz(
            matrix, indices=np.array([2**64 - 2**32, 0, 2], "u8")
        ),
        "invalid/coo-record-of-33-bits": scipy_npz(
            matrix.tocoo(), row=np.array([0, 2**32 + 2, 2], "i8")
        ),
        "invalid/csr-indptr-wraps": scipy_npz(
            matrix, indptr=np.array([0, 6 * 2**60, -(4 * 2**60), 3])
        ),
        "invalid/coo-more-values-than-places": scipy_npz(
            matrix.tocoo(), shape=np.array([1, 2]), row=np.array([0, 0, 0])
        ),
        "invalid/csr-column-twice": scipy_npz(matrix, indices=np.array([1, 2, 2])),
        "invalid/csr-indptr-of-other-length": scipy_npz(matrix, indptr=np.array([0, 3])),
        "invalid/csr-indptr-falls": scipy_npz(matrix, indptr=np.array([0, 3, 1, 3])),
        "invalid/csr-indptr-beyond": scipy_npz(matrix, indptr=np.array([0, 1, 1, 9])),
        "invalid/csr-without-data": scipy_npz(matrix, data=None),
        "invalid/csr-too-few-values": scipy_npz(matrix, data=np.ones(2)),
        "invalid/csr-values-in-two-dimensions": scipy_npz(matrix, data=np.ones((3, 1))),
        "invalid/csr-fractional-columns": scipy_npz(matrix, indices=np.array([1.0, 0, 2])),
        "invalid/csr-columns-beyond-32-bits": scipy_npz(matrix, shape=np.array([3, 2**31])),
        "invalid/csr-no-records": scipy_npz(matrix, shape=np.array([0, 3])),
        "invalid/csr-negative-records": scipy_npz(
            matrix, shape=np.array([-1, 3]), indptr=empty, indices=empty, data=empty
        ),
        "invalid/coo-record-outside": scipy_npz(matrix.tocoo(), row=np.array([0, 3, 2])),
        "invalid/dia": scipy_npz(sparse.dia_matrix(np.eye(2))),
        "invalid/csr-label": scipy_npz(matrix),
    }


def parquet_bodies() -> dict[str, bytes]:
    plain = {"a": [1.0, 3.0], "b": [2.5, None]}
    body = parquet(plain)
    return {
        "valid/floats": body,
        "valid/integers": parquet({"a": pa.array([1, 255], pa.uint8()), "b": [-(2**40), 3]}),
        "valid/float16": parquet({"a": pa.array(np.array([1, 2.5], "f2"))}),
        "valid/decimals": parquet({"a": pa.array([Decimal("1.25"), None], pa.decimal128(9, 2))}),
        "valid/booleans": parquet({"a": [True, False, None]}),
        "valid/nothing-but-nulls": parquet({"a": pa.nulls(2), "b": [1, 2]}),
        "valid/three-row-groups": parquet({"a": [1, 2, 3, 4, 5]}, row_group_size=2),
        "valid/gzip": parquet(plain, compression="gzip"),
        "valid/dictionary-of-repeated-numbers": parquet({"a": [1.5] * 5}, use_dictionary=True),
        "valid/label-and-weight": parquet({"y": [1, 0], "w": [0.5, 2], "a": [7, 9], "b": [8, 10]}),
        "valid/index-of-pandas": parquet(
            {**plain, "__index_level_0__": [7, 9]}, pandas=index_of_pandas("__index_level_0__")
        ),
        "valid/index-of-pandas-as-text": parquet(
            {"id": ["x", "y"], "at": pa.array([0, 1], pa.date32()), **plain},
            pandas=index_of_pandas("id", "at"),
        ),
        "valid/range-index-of-pandas": parquet(
            plain, pandas=index_of_pandas({"kind": "range", "start": 0, "stop": 2, "step": 1})
        ),
        "valid/metadata-of-pandas-broken": parquet(plain, pandas=b"[" * 100_000),
        "valid/metadata-of-pandas-of-another-form": parquet(plain, pandas=b'{"index_columns": 1}'),
        "invalid/index-of-pandas-alone": parquet({"id": [1, 2]}, pandas=index_of_pandas("id")),
        "invalid/csv": b"1,2\n",
        "invalid/truncated": body[:-20],
        "invalid/spoilt": body[:4] + bytes(len(body) // 2) + body[4 + len(body) // 2 :],
        "invalid/encrypted": b"PARE" + body[4:-4] + b"PARE",
        "invalid/no-records": parquet({"a": pa.array([], pa.float32())}),
        "invalid/no-columns": parquet({}),
        "invalid/text": parquet({"a": [1.0], "b": ["2"]}),
        "invalid/dates": parquet({"a": pa.array([0], pa.date32())}),
        "invalid/list": parquet({"a": [[1.0, 2.0]]}),
        "invalid/structure": parquet({"a": [{"b": 1.0}]}),
        "invalid/categories": parquet({"a": pa.array(["x"]).dictionary_encode()}),
        "invalid/infinite": parquet({"a": [1.0, 2.0], "b": [3.0, float("inf")]}),
        "invalid/overflow": parquet({"a": [1e39]}),
        "invalid/wider-than-expected": parquet({"a": [1], "b": [2], "c": [3]}),
        "invalid/narrower-than-expected-with-label": parquet({"a": [1], "b": [2]}),
        "invalid/label-alone": parquet({"a": [1]}),
        "invalid/required-column-with-histograms-of-an-optional-one": with_footer(
            parquet({"a": [1.0, 2.0], "b": [3.0, 4.0]}), require_last_column
        ),
        "invalid/row-group-with-fewer-columns-than-the-schema": with_footer(
            parquet({"a": [1.0, 2.0], "b": [3.0, 4.0]}), drop_last_column
        ),
        "invalid/three-million-records-in-a-kilobyte": parquet({"a": np.zeros(3_000_000)}),
    }


def named_bodies() -> dict[str, bytes]:
    """Parquet for a model whose features are `age` and `income`."""
    age, income, label = {"age": [30]}, {"income": [1.5]}, {"bought": [1]}
    return {
        "valid/names-in-another-order": parquet({"income": [1.5, 2.5], "age": [30, 40]}),
        "valid/names-that-count": parquet({"0": [30, 40], "1": [1.5, 2.5]}),
        "valid/names-and-a-label-between": parquet(income | label | age),
        "valid/index-of-pandas-without-metadata": parquet(
            age | income | {"__index_level_0__": ["x"]}
        ),
        "invalid/names-of-other-features": parquet(age | {"salary": [1.5]}),
        "invalid/names-and-the-label": parquet(label | age | income),
        "invalid/names-without-the-label": parquet(age | income),
        "invalid/name-twice": parquet(age | income, names=["age", "age"]),
        "invalid/one-feature-missing": parquet(age),
        "invalid/timestamps": parquet(age | {"signup": pa.array([0], pa.timestamp("ms"))}),
    }


def recordio_bodies() -> dict[str, bytes]:
    dense = record(tensor(2, floats(1, 2.5)))
    cells = record(tensor(2, floats(2, 1), varints(3, 0), varints(5)))
    labelled = record(tensor(2, floats(7, 8)), tensor(2, floats(1)))
    unpacked = b"".join(b"\x0d" + floats(number) for number in (1, 2.5))
    return {
        "valid/float32": frames(dense, record(tensor(2, floats(3, np.nan)))),
        "valid/float64": frames(record(tensor(3, doubles(1, 2.5)))),
        "valid/int32": frames(record(tensor(7, varints(1, 2)))),
        "valid/kinds-mixed": frames(dense, record(tensor(7, varints(3, 4)))),
        "valid/shape": frames(record(tensor(2, floats(1, 2.5), shape=varints(2)))),
        "valid/not-packed": frames(record(message(2, unpacked))),
        "valid/other-entries-are-passed-over": frames(
            message(1, entry(tensor(9, b""), b"image"))
            + dense
            + message(3, b"uid")
            + message(9, b"x")
        ),
        "valid/sparse": frames(cells, record(tensor(2, b"", shape=varints(5)))),
        "valid/sparse-without-shape": frames(record(tensor(3, doubles(1.5), varints(2)))),
        "valid/sparse-narrower-than-expected": frames(cells),
        "valid/labels": frames(labelled, record(tensor(2, floats(9, 10)), tensor(3, doubles(0)))),
        "valid/label-not-asked-for": frames(labelled),
        "valid/no-padding-needed": frames(record(tensor(2, floats(1)), b"") + message(3, b"123")),
        "invalid/csv": b"1,2\n",
        "invalid/no-frame": frames(dense) + b"1,2,3,4\n",
        "invalid/truncated-header": frames(dense) + b"\x0a\x23\xd7",
        "invalid/truncated-record": frames(dense, dense)[:-4],
        "invalid/length-beyond-the-body": struct.pack("<II", 0xCED7230A, 2**32 - 1) + dense,
        "invalid/padding-not-zero": frames(dense + message(3, b"x"))[:-1] + b"\1",
        "invalid/no-message": frames(dense, b"\xff\xff\xff\xff"),
        "invalid/no-features": frames(message(3, b"uid")),
        "invalid/features-of-another-name": frames(message(1, entry(tensor(2, floats(1)), b"x"))),
        "invalid/bytes": frames(record(tensor(9, b"\x89PNG"))),
        "invalid/empty": frames(record(message(2, b""))),
        "invalid/ragged": frames(dense, record(tensor(2, floats(1)))),
        "invalid/shape-unlike-the-values": frames(record(tensor(2, floats(1), shape=varints(2)))),
        "invalid/shape-of-two-numbers": frames(record(tensor(2, floats(1), shape=varints(1, 1)))),
        "invalid/shapes-differ": frames(
            cells, record(tensor(2, floats(1), varints(0), varints(6)))
        ),
        "invalid/keys-and-values-differ": frames(record(tensor(2, floats(1, 2), varints(0)))),
        "invalid/key-outside-of-the-shape": frames(
            record(tensor(2, floats(1), varints(5), varints(5)))
        ),
        "invalid/key-over-the-expected": frames(record(tensor(2, floats(1), varints(28)))),
        "invalid/key-twice": frames(cells, record(tensor(2, floats(1, 2), varints(1, 1)))),
        "invalid/key-of-64-bits": frames(
            record(tensor(2, floats(1), b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
        ),
        "invalid/sparse-after-dense": frames(dense, cells),
        "invalid/dense-after-sparse": frames(cells, dense),
        "invalid/infinite": frames(record(tensor(2, floats(1, np.inf)))),
        "invalid/overflow": frames(dense, record(tensor(3, doubles(1, -1e39)))),
        "invalid/sparse-overflow": frames(record(tensor(3, doubles(1e39), varints(1)))),
        "invalid/label-missing": frames(labelled, dense),
        "invalid/two-labels": frames(record(tensor(2, floats(7)), tensor(2, floats(1, 2)))),
        "invalid/label-overflow": frames(record(tensor(2, floats(7)), tensor(3, doubles(1e39)))),
        "invalid/wider-than-expected": frames(dense, record(tensor(2, floats(1, 2, 3)))),
        "invalid/narrower-than-expected": frames(record(tensor(2, floats(1)))),
    }


def zip_of(name: str, data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()


def foreign_files() -> dict[str, bytes]:
    """Files that are not what their content type says, by the folder of the corpus."""
    text = b"1,2\n"
    return {
        "csv/invalid/file-gzip": gzip.compress(text, mtime=0),
        "csv/invalid/file-bzip2": bz2.compress(text),
        "csv/invalid/file-xz": lzma.compress(text),
        "csv/invalid/file-zstandard": b"\x28\xb5\x2f\xfd\x04\x58\x21\0\0" + text + bytes(4),
        "csv/invalid/file-excel": zip_of("[Content_Types].xml", b"<Types/>"),
        "csv/invalid/file-zip": zip_of("a.csv", text),
        "csv/invalid/file-npz": npz(x=npy(MATRIX)),
        "csv/invalid/file-npy": npy(MATRIX),
        "csv/invalid/file-parquet": parquet({"a": [1, 2]}),
        "csv/invalid/file-recordio": frames(record(tensor(2, floats(1, 2)))),
        "csv/invalid/file-pickle": pickle.dumps([1.0, 2.0], protocol=4),
        "csv/invalid/utf-16-without-mark": text.decode().encode("utf-16-le"),
        "csv/invalid/utf-32": text.decode().encode("utf-32"),
        "json/invalid/file-gzip": gzip.compress(b"[[1]]", mtime=0),
        "libsvm/invalid/file-zip": zip_of("a.txt", b"1 0:1\n"),
        "npy/invalid/file-npz": npz(x=npy(MATRIX)),
        "npz/invalid/file-npy": npy(MATRIX),
        "parquet/invalid/file-gzip": gzip.compress(b"PAR1", mtime=0),
    }


def main() -> None:
    """Write every body."""
    for path, body in foreign_files().items():
        (ROOT / path).with_suffix(".body").write_bytes(body)
    for name, bodies in (
        ("npy", npy_bodies()),
        ("npz", npz_bodies()),
        ("parquet", parquet_bodies() | named_bodies()),
        ("recordio", recordio_bodies()),
    ):
        for path, body in bodies.items():
            file = (ROOT / name / path).with_suffix(".body")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)


if __name__ == "__main__":
    main()
