"""`application/x-npy` and `application/x-npz`: arrays as NumPy saves them, never unpickled.

NPY: numbers of any type, `[n_rows, n_columns]` in either memory order, or one record `[n_columns]`.
An array of one dimension is one record, as in JSON; AWS's toolkits leave its meaning to the model.

NPZ: one such array, or a sparse matrix as SciPy's `save_npz` writes it (`csr`, `csc` or `coo`),
which AWS's SDK and toolkits send as this type. A cell that is not stored is missing.

An NPZ body is compressed, so it may be a decompression bomb: the sizes that it announces are
checked before anything is unpacked, and no more than the announced bytes are read.
"""

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from container import content_types
from container.codecs import diagnosis
from container.codecs.records import (
    MAX_CELLS,
    MAX_COLUMNS,
    MAX_UNPACKED_BYTES,
    Batch,
    Columns,
    Floats,
    SparseRows,
    check_finite,
    check_unpacked_size,
    check_width,
    dense_batch,
    sparse_batch,
)
from container.codecs.sparse import compress
from container.errors import MalformedPayloadError, counted

# The header is a Python dictionary. NumPy evaluates it, at fifteen times the cost, and calls that
# unsafe for long ones; a plain array's needs no more than this.
_HEADER = re.compile(
    rb"\{\s*+(?:(?:'descr':\s*+'(?P<descr>[<>|=]?[biufSU]\d{1,4})'"
    rb"|'fortran_order':\s*+(?P<fortran>True|False)"
    rb"|'shape':\s*+\((?P<shape>[\d\s,L]{0,60})\)"
    rb")\s*+,?+\s*+){3}\}\s*+"
)
_MAX_HEADER_BYTES = 1024
_MAGIC = b"\x93NUMPY"
_LENGTHS = {b"\x01\x00": "<H", b"\x02\x00": "<I", b"\x03\x00": "<I"}  # by version
# Kinds of NumPy types.
_NUMBERS, _INTEGERS, _TEXT = "biuf", "iu", "SU"
_KINDS = {_NUMBERS: "numbers", _INTEGERS: "integers", _TEXT: "text"}

_MAX_MEMBERS = 16
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,  # a feature of the format that Python lacks
    OSError,
    OverflowError,
    RuntimeError,  # encrypted
    ValueError,  # a name that is not UTF-8
)


def decode(body: bytes, columns: Columns) -> Batch:
    """Read an array whose first columns are as `columns` says.

    Raises:
        MalformedPayloadError: the body is not an array of numbers of one or two dimensions, or its
            size is not that of the header.
    """
    try:
        return _batch(_matrix(body), columns)
    except MalformedPayloadError as error:
        raise diagnosis.explained(error, body, content_types.NPY) from None


def decode_npz(body: bytes, columns: Columns) -> Batch:
    """Read the one array of an archive, or the sparse matrix that its arrays make up.

    Raises:
        MalformedPayloadError: the archive has neither, is broken, or exceeds the decompression-bomb
            limit (`MAX_UNPACKED_BYTES`, `MAX_CELLS`).
    """
    try:
        return _decode_npz(body, columns)
    except MalformedPayloadError as error:
        raise diagnosis.explained(error, body, content_types.NPZ) from None


def _decode_npz(body: bytes, columns: Columns) -> Batch:
    members = _unpack(body)
    if "format" in members:
        return sparse_batch(_sparse_matrix(members, columns), columns)
    if len(members) != 1:
        raise MalformedPayloadError(
            f"the archive has {len(members)} arrays; send one array, or a sparse matrix saved by "
            "scipy.sparse.save_npz"
        )
    (array,) = members.values()
    matrix = _matrix(array)
    check_unpacked_size(*matrix.shape)
    return _batch(matrix, columns)


def encode(values: Floats) -> bytes:
    """Write predictions, `[n_rows]` or `[n_rows, n_outputs]`, as a float32 array."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, values, allow_pickle=False)
    return stream.getvalue()


def _matrix(body: bytes) -> NDArray[Any]:
    """Return the numbers of an NPY file in two dimensions, of their own type."""
    array = _array(body, _NUMBERS)
    if not array.size:
        raise MalformedPayloadError("there are no records")
    if array.ndim not in (1, 2):
        raise MalformedPayloadError(
            f"the array has {array.ndim} dimensions; send 2 (records and columns), or 1 for one "
            "record"
        )
    return np.atleast_2d(array)


def _batch(matrix: NDArray[Any], columns: Columns) -> Batch:
    check_width(matrix.shape[1], columns)
    rows = _as_float32(matrix)
    check_finite(rows)
    return dense_batch(rows, columns)


def _array(body: bytes, kinds: str) -> NDArray[Any]:
    """Return the array of an NPY file, a view of `body`."""
    length_format = _LENGTHS.get(body[6:8])
    if not body.startswith(_MAGIC) or length_format is None or len(body) < 12:
        raise MalformedPayloadError(
            "the body is not an NPY file of version 1, 2 or 3; write it with numpy.save"
        )
    start = 8 + struct.calcsize(length_format)
    (length,) = struct.unpack_from(length_format, body, 8)
    end = start + length
    header = _HEADER.fullmatch(body, start, end) if length <= _MAX_HEADER_BYTES else None
    if header is None or None in header.groups():
        raise MalformedPayloadError(
            "the NPY header is not that of an array of numbers; structured arrays, complex "
            "numbers, dates and Python objects are not accepted"
        )
    try:
        dtype = np.dtype(header["descr"].decode())
    except TypeError:
        raise MalformedPayloadError(
            "the array has an unknown type; send integers, floats or booleans"
        ) from None
    if dtype.kind not in kinds or not dtype.itemsize:
        raise MalformedPayloadError(f"the array does not hold {_KINDS[kinds]}")
    shape = tuple(int(size) for size in re.findall(rb"\d+", header["shape"]))
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes != len(body) - end:
        raise MalformedPayloadError(
            f"the header announces {counted(n_bytes, 'byte')} of data and {len(body) - end} follow"
        )
    if not n_bytes:
        return np.empty(0, dtype)
    order: Literal["F", "C"] = "F" if header["fortran"] == b"True" else "C"
    return np.frombuffer(body, dtype, offset=end).reshape(shape, order=order)


def _as_float32(array: NDArray[Any]) -> Floats:
    with np.errstate(over="ignore"):  # a number that does not fit becomes infinite, and is refused
        return np.array(array, dtype=np.float32, order="C")


def _unpack(body: bytes) -> dict[str, bytes]:
    """Return the arrays of an archive by name, within the decompression-bomb limit."""
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            members = archive.infolist()
            if len(members) > _MAX_MEMBERS:
                raise MalformedPayloadError(
                    f"the archive has {len(members)} members; the limit is {_MAX_MEMBERS}"
                )
            n_bytes = sum(member.file_size for member in members)
            if n_bytes > MAX_UNPACKED_BYTES:
                raise MalformedPayloadError(
                    f"the archive unpacks to {n_bytes} bytes; the limit is {MAX_UNPACKED_BYTES}; "
                    "send fewer records at once"
                )
            return {name.removesuffix(".npy"): data for name, data in _read(archive, members)}
    except _ZIP_ERRORS as error:
        raise MalformedPayloadError(
            "the NPZ archive cannot be unpacked: it is damaged or encrypted; write it with "
            "numpy.savez"
        ) from error


def _read(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> Iterator[tuple[str, bytes]]:
    for member in members:
        if member.compress_type not in _ZIP_METHODS:
            raise MalformedPayloadError(
                "the archive has a compression other than deflate; write it with numpy.savez or "
                "numpy.savez_compressed"
            )
        with archive.open(member) as stream:
            # Without the announced size as argument, `read` would unpack all that there is.
            yield member.filename, stream.read(member.file_size)


def _sparse_matrix(members: dict[str, bytes], columns: Columns) -> SparseRows:
    """Return a matrix that `scipy.sparse.save_npz` wrote, in compressed sparse rows."""
    layout = _array(members["format"], _TEXT).tobytes().replace(b"\0", b"")  # in bytes or UTF-32
    shape = _vector(members, "shape", _INTEGERS).tolist()
    if layout not in (b"csr", b"csc", b"coo"):
        raise MalformedPayloadError(
            "the sparse matrix has another format than csr, csc or coo; convert it with .tocsr()"
        )
    if len(shape) != 2 or shape[0] < 1 or not 0 < shape[1] <= MAX_COLUMNS:
        raise MalformedPayloadError(
            f"the shape of the sparse matrix is {shape}; it must have 2 dimensions, at least 1 "
            f"record and 1 to {MAX_COLUMNS} columns"
        )
    n_rows, n_columns = shape
    if columns.n_features is not None and n_columns > columns.n_features:
        raise MalformedPayloadError(
            f"the matrix has {n_columns} columns where at most {columns.n_features} are expected"
        )
    check_unpacked_size(n_rows, 0)
    data = _vector(members, "data", _NUMBERS)
    if len(data) > n_rows * n_columns:
        raise MalformedPayloadError(
            f"the sparse matrix has {counted(len(data), 'stored value')} and {n_rows} x "
            f"{n_columns} cells; call sum_duplicates() before saving it"
        )
    if layout == b"csr":
        rows = _expand(members, n_rows, len(data))
        keys = _vector(members, "indices", _INTEGERS)
    elif layout == b"csc":
        rows = _vector(members, "indices", _INTEGERS)
        keys = _expand(members, n_columns, len(data))
    else:
        rows, keys = _vector(members, "row", _INTEGERS), _vector(members, "col", _INTEGERS)
    if not len(rows) == len(keys) == len(data):
        raise MalformedPayloadError(
            f"the sparse matrix has {counted(len(data), 'value')} for "
            f"{counted(len(rows), 'row number')} and {counted(len(keys), 'column number')}; save "
            "it again with scipy.sparse.save_npz"
        )
    return compress(_in_32_bits(rows), _in_32_bits(keys), _as_float32(data), (n_rows, n_columns))


def _vector(members: dict[str, bytes], name: str, kinds: str) -> NDArray[Any]:
    """Return an array of the sparse matrix, a view of `members`."""
    if name not in members:
        raise MalformedPayloadError(f"the sparse matrix lacks the array {name!r}")
    array = _array(members[name], kinds)
    if array.ndim != 1:
        raise MalformedPayloadError(
            f"the array {name!r} of the sparse matrix has {array.ndim} dimensions, not 1"
        )
    if len(array) > MAX_CELLS:  # a value may have a byte in the file, and takes 40 when read
        raise MalformedPayloadError(
            f"the array {name!r} of the sparse matrix has {len(array)} values; the limit is "
            f"{MAX_CELLS}; send fewer records at once"
        )
    return array


def _expand(members: dict[str, bytes], n_groups: int, n_cells: int) -> NDArray[np.int32]:
    """Return the row (or column) of every cell, given the start of each row's cells."""
    starts = _vector(members, "indptr", _INTEGERS)
    if len(starts) == n_groups + 1:
        starts = starts.astype(np.int64)
        lengths = np.diff(starts)
        if starts[0] == 0 and starts[-1] == n_cells and min(starts.min(), lengths.min()) >= 0:
            return np.repeat(np.arange(n_groups, dtype=np.int32), lengths)
    raise MalformedPayloadError(
        "the array 'indptr' does not fit the shape of the sparse matrix; save it again with "
        "scipy.sparse.save_npz"
    )


def _in_32_bits(indices: NDArray[Any]) -> NDArray[np.int32]:
    """Narrow row or column indices; one that does not fit is outside any matrix, and becomes -1."""
    # XGBoost refuses arrays that are not aligned; in the file they begin where the header ends.
    narrow = np.require(indices.astype(np.int32, copy=False), requirements="A")
    if not np.can_cast(indices.dtype, np.int32):
        narrow[(indices < 0) | (indices > MAX_COLUMNS)] = -1
    return narrow
