"""Valid bodies of every content type that the server reads, for a model of a given width."""

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray
from scipy import sparse

Rows = NDArray[np.float64]

ROW_COUNTS = (1, 3, 40)
MISSING_SHARE = 0.1
_SEED = 7
_RECORDIO_MAGIC = 0xCED7230A
_FLOAT32, _FLOAT64, _INT32 = 2, 3, 7  # numbers of the tensors in AWS's `record.proto`


@dataclass(frozen=True, slots=True)
class Body:
    """A request, as it is sent.

    Args:
        kind: Name in reports: the format of the body, which the content type may contradict.
    """

    kind: str
    content_type: str
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)


def valid_bodies(n_features: int) -> list[Body]:
    """Make them all; every one is answered with 200."""
    random = np.random.default_rng(_SEED)
    bodies: list[Body] = []
    for n_rows in ROW_COUNTS:
        rows = random.normal(size=(n_rows, n_features)).round(4)
        gaps = np.where(random.random(rows.shape) < MISSING_SHARE, np.nan, rows)
        gaps[0, 0] = rows[0, 0]  # a record of nothing is none in sparse formats
        makers = (_csv, _libsvm, _json, _json_lines, _npy, _npz, _parquet, _recordio)
        for make in makers:
            bodies += make(rows, gaps)
    return bodies + [_gzipped(body) for body in bodies]


def _gzipped(body: Body) -> Body:
    data = gzip.compress(body.data, mtime=0)
    headers = {"Content-Encoding": "gzip"}
    return Body(f"{body.kind}+gzip", body.content_type, data, headers)


def _csv(rows: Rows, gaps: Rows) -> Iterator[Body]:
    def text(table: Rows, separator: str = ",", quote: str = "") -> bytes:
        cells = [["" if np.isnan(x) else f"{quote}{x}{quote}" for x in row] for row in table]
        return "".join(separator.join(row) + "\n" for row in cells).encode()

    yield Body("csv", "text/csv", text(rows))
    yield Body("csv", "text/csv", text(gaps, ";"))
    yield Body("csv", "text/csv", text(rows, "\t", '"'))
    labelled = np.column_stack([np.ones(len(rows)), rows])
    yield Body("csv", "text/csv; label_size=1", text(labelled))


def _libsvm(rows: Rows, gaps: Rows) -> Iterator[Body]:
    for table, label in ((rows, "1 "), (gaps, "0 "), (gaps, "")):
        lines = (" ".join(f"{i}:{x}" for i, x in enumerate(row) if x == x) for row in table)
        text = "".join(f"{label}{line}\n" for line in lines)
        yield Body("libsvm", "text/libsvm", text.encode())


def _records(rows: Rows, gaps: Rows) -> Iterator[list[Any]]:
    """The forms of a record in JSON."""
    lists = [[None if np.isnan(x) else x for x in row] for row in gaps]
    yield rows.tolist()
    yield [{"features": row} for row in lists]
    yield [{"data": {"features": {"values": row}}} for row in lists]
    there = [(np.flatnonzero(row == row), row[row == row]) for row in gaps]
    yield [{"features": {"keys": k.tolist(), "values": v.tolist()}} for k, v in there]


def _json(rows: Rows, gaps: Rows) -> Iterator[Body]:
    for records in _records(rows, gaps):
        for document in ({"instances": records}, records, records[0]):
            yield Body("json", "application/json", json.dumps(document).encode())


def _json_lines(rows: Rows, gaps: Rows) -> Iterator[Body]:
    for records in _records(rows, gaps):
        text = "".join(json.dumps(record) + "\n" for record in records)
        yield Body("jsonlines", "application/jsonlines", text.encode())


def npy(array: NDArray[Any]) -> bytes:
    """Write an array as `numpy.save` does."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return stream.getvalue()


def _npy(rows: Rows, gaps: Rows) -> Iterator[Body]:
    arrays = (
        *(gaps, gaps.astype("<f4"), gaps.astype(">f8"), rows.astype("<f2"), rows[0]),
        *(np.asfortranarray(rows), rows.astype("i1"), (rows > 0), np.abs(rows).astype(">u8")),
    )
    for array in arrays:
        yield Body("npy", "application/x-npy", npy(array))


def _npz(rows: Rows, gaps: Rows) -> Iterator[Body]:
    for is_packed in (False, True):
        stream = io.BytesIO()
        (np.savez_compressed if is_packed else np.savez)(stream, gaps)
        yield Body("npz", "application/x-npz", stream.getvalue())
        for layout in ("csr", "csc", "coo"):
            stream = io.BytesIO()
            matrix = sparse.coo_matrix(np.where(rows > 0, rows, 0)).asformat(layout)
            sparse.save_npz(stream, matrix, compressed=is_packed)
            yield Body("npz", "application/x-npz", stream.getvalue())


def zip_of(members: dict[str, bytes], *, is_packed: bool) -> bytes:
    """Write an archive whose checksums are right, whatever its members hold."""
    stream = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if is_packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members.items():
            # A date of its own would make another file every time.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, method)
    return stream.getvalue()


def _parquet(rows: Rows, gaps: Rows) -> Iterator[Body]:
    options: list[dict[str, Any]] = [
        {},
        {"compression": "zstd", "data_page_version": "2.0"},
        {"compression": "none", "use_dictionary": False},
        {"compression": "gzip", "row_group_size": 7, "write_page_index": True},
        {"compression": "brotli", "data_page_size": 64, "write_page_checksum": True},
        {"use_dictionary": False, "column_encoding": "BYTE_STREAM_SPLIT"},
        {"use_dictionary": False, "column_encoding": "PLAIN", "version": "1.0"},
    ]
    tables = (
        pa.table({f"c{i}": pa.array(column, from_pandas=True) for i, column in enumerate(gaps.T)}),
        pa.table({f"c{i}": _any_type(column, i) for i, column in enumerate(rows.T)}),
    )
    for table in tables:
        for option in options:
            if table is tables[1] and "column_encoding" in option:
                continue  # not for every type
            stream = io.BytesIO()
            pq.write_table(table, stream, **option)
            yield Body("parquet", "application/x-parquet", stream.getvalue())


def _any_type(column: NDArray[np.float64], index: int) -> Any:
    """A column of one of the types that records may have, in turn."""
    whole = np.abs(column * 10).astype(np.int64)
    types = (
        *(pa.float64(), pa.float32(), pa.int8(), pa.int64(), pa.uint32(), pa.bool_()),
        *(pa.decimal128(30, 3), pa.decimal256(50, 3), pa.float16()),
    )
    kind = types[index % len(types)]
    if pa.types.is_floating(kind):
        return pa.array(column.astype(kind.to_pandas_dtype()))
    return pa.array(whole > 0 if pa.types.is_boolean(kind) else whole).cast(kind)


def _recordio(rows: Rows, gaps: Rows) -> Iterator[Body]:
    def body(records: Iterable[bytes]) -> Body:
        data = b"".join(frame(record) for record in records)
        return Body("recordio", "application/x-recordio-protobuf", data)

    dense = gaps.astype("<f4")
    yield body(_record(_FLOAT32, row.tobytes()) for row in dense)
    yield body(_record(_FLOAT64, row.astype("<f8").tobytes()) for row in gaps)
    whole = np.abs(rows).astype(int).tolist()
    yield body(_record(_INT32, b"".join(map(_varint, row))) for row in whole)
    yield body(
        _record(
            _FLOAT32,
            row[row == row].tobytes(),
            b"".join(map(_varint, np.flatnonzero(row == row).tolist())),
            _varint(len(row)),
        )
        for row in dense
    )


def frame(record: bytes) -> bytes:
    """Put a record into a RecordIO frame."""
    header = struct.pack("<II", _RECORDIO_MAGIC, len(record))
    return header + record + bytes(-len(record) % 4)


def _record(tensor: int, values: bytes, keys: bytes = b"", shape: bytes = b"") -> bytes:
    """AWS's `Record` in protobuf, with one entry of features."""
    inside = b"".join(_field(i, part) for i, part in ((1, values), (2, keys), (3, shape)) if part)
    return _field(1, _field(1, b"values") + _field(2, _field(tensor, inside)))


def _field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])
