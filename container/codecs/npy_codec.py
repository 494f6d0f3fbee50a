"""`application/x-npy` and `application/x-npz`: arrays as NumPy saves them, never unpickled.

NPY: numbers of any type, `[n_rows, n_columns]` in either memory order, or one record `[n_columns]`.
AWS's toolkits pass an array of one dimension on as it is; here it is one record, as in JSON.

NPZ: one such array; or what AWS's SDK and toolkits mean by this type, a sparse matrix as SciPy's
`save_npz` writes it (`csr`, `csc` or `coo`). A cell that is not stored is missing.
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
    dense_batch,
    refuse_expansion,
    refuse_infinity,
    refuse_width,
    sparse_batch,
)
from container.codecs.sparse import compress
from container.errors import MalformedPayloadError

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
        MalformedPayloadError: it is no array of numbers of one or two dimensions, or its size is
            not the one that its header says.
    """
    try:
        return _batch(_matrix(body), columns)
    except MalformedPayloadError as error:
        raise diagnosis.explained(error, body, content_types.NPY) from None


def decode_npz(body: bytes, columns: Columns) -> Batch:
    """Read an archive's one array, or the sparse matrix that its arrays make up.

    Raises:
        MalformedPayloadError: it has neither, is broken, or unpacks to more than `MAX_CELLS`.
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
            f"the archive has {len(members)} arrays; send one, or a sparse matrix of SciPy's"
        )
    (array,) = members.values()
    matrix = _matrix(array)
    refuse_expansion(*matrix.shape)
    return _batch(matrix, columns)


def encode(values: Floats) -> bytes:
    """Write predictions, `[n_rows]` or `[n_rows, n_outputs]`, as a float32 array."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, values, allow_pickle=False)
    return stream.getvalue()


def _matrix(body: bytes) -> NDArray[Any]:
    """The numbers of an NPY file as they are, in two dimensions."""
    array = _array(body, _NUMBERS)
    if not array.size:
        raise MalformedPayloadError("there are no records")
    if array.ndim not in (1, 2):
        raise MalformedPayloadError(f"the array has {array.ndim} dimensions; send 2, or 1")
    return np.atleast_2d(array)


def _batch(matrix: NDArray[Any], columns: Columns) -> Batch:
    refuse_width(matrix.shape[1], columns)
    rows = _as_float32(matrix)
    refuse_infinity(rows)
    return dense_batch(rows, columns)


def _array(body: bytes, kinds: str) -> NDArray[Any]:
    """The array of an NPY file, in the memory of `body`."""
    length_format = _LENGTHS.get(body[6:8])
    if not body.startswith(_MAGIC) or length_format is None or len(body) < 12:
        raise MalformedPayloadError("this is no NPY file of version 1, 2 or 3")
    start = 8 + struct.calcsize(length_format)
    (length,) = struct.unpack_from(length_format, body, 8)
    end = start + length
    header = _HEADER.fullmatch(body, start, end) if length <= _MAX_HEADER_BYTES else None
    if header is None or None in header.groups():
        raise MalformedPayloadError(
            "the NPY header is not that of an array of numbers; records with named fields, complex "
            "numbers, dates and Python objects are not read"
        )
    try:
        dtype = np.dtype(header["descr"].decode())
    except TypeError:
        raise MalformedPayloadError("the array has an unknown type") from None
    if dtype.kind not in kinds or not dtype.itemsize:
        raise MalformedPayloadError(f"the array does not hold {_KINDS[kinds]}")
    shape = tuple(int(size) for size in re.findall(rb"\d+", header["shape"]))
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes != len(body) - end:
        raise MalformedPayloadError(
            f"the header announces {n_bytes} bytes of data and {len(body) - end} follow"
        )
    if not n_bytes:
        return np.empty(0, dtype)
    order: Literal["F", "C"] = "F" if header["fortran"] == b"True" else "C"
    return np.frombuffer(body, dtype, offset=end).reshape(shape, order=order)


def _as_float32(array: NDArray[Any]) -> Floats:
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, which is looked for
        return np.array(array, dtype=np.float32, order="C")


def _unpack(body: bytes) -> dict[str, bytes]:
    """The arrays of an archive by their names."""
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
                    f"the archive unpacks to {n_bytes} bytes; the limit is {MAX_UNPACKED_BYTES}"
                )
            return {name.removesuffix(".npy"): data for name, data in _read(archive, members)}
    except _ZIP_ERRORS as error:
        raise MalformedPayloadError("the NPZ archive cannot be unpacked") from error


def _read(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> Iterator[tuple[str, bytes]]:
    for member in members:
        if member.compress_type not in _ZIP_METHODS:
            raise MalformedPayloadError("the archive is not stored or deflated, as NumPy's are")
        with archive.open(member) as stream:
            # The announced size is a limit only if it is asked for: `read()` unpacks all there is.
            yield member.filename, stream.read(member.file_size)


def _sparse_matrix(members: dict[str, bytes], columns: Columns) -> SparseRows:
    """A matrix of SciPy's."""
    layout = _array(members["format"], _TEXT).tobytes().replace(b"\0", b"")  # in bytes or UTF-32
    shape = _vector(members, "shape", _INTEGERS).tolist()
    if layout not in (b"csr", b"csc", b"coo"):
        raise MalformedPayloadError("the sparse matrix is not csr, csc or coo")
    if len(shape) != 2 or shape[0] < 1 or not 0 < shape[1] <= MAX_COLUMNS:
        raise MalformedPayloadError("the sparse matrix must have records, and columns in 32 bits")
    n_rows, n_columns = shape
    if columns.n_features is not None and n_columns > columns.n_features:
        raise MalformedPayloadError(
            f"the matrix has {n_columns} columns where at most {columns.n_features} are expected"
        )
    refuse_expansion(n_rows, 0)
    data = _vector(members, "data", _NUMBERS)
    if len(data) > n_rows * n_columns:
        raise MalformedPayloadError(
            f"the sparse matrix has {len(data)} values, and places for {n_rows * n_columns}"
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
        raise MalformedPayloadError("the sparse matrix has not as many places as values")
    return compress(_in_32_bits(rows), _in_32_bits(keys), _as_float32(data), (n_rows, n_columns))


def _vector(members: dict[str, bytes], name: str, kinds: str) -> NDArray[Any]:
    """An array of the sparse matrix, in the memory of `members`."""
    if name not in members:
        raise MalformedPayloadError(f"the sparse matrix lacks the array {name!r}")
    array = _array(members[name], kinds)
    if array.ndim != 1:
        raise MalformedPayloadError(f"the array {name!r} of the sparse matrix has not 1 dimension")
    if len(array) > MAX_CELLS:  # a byte each, of which more than 40 would be made
        raise MalformedPayloadError(
            f"the array {name!r} of the sparse matrix has {len(array)} values; the limit is "
            f"{MAX_CELLS}; send fewer records at once"
        )
    return array


def _expand(members: dict[str, bytes], n_groups: int, n_cells: int) -> NDArray[np.int32]:
    """The row (or column) of every cell, from where the cells of each one start."""
    starts = _vector(members, "indptr", _INTEGERS)
    if len(starts) == n_groups + 1:
        starts = starts.astype(np.int64)
        lengths = np.diff(starts)
        if starts[0] == 0 and starts[-1] == n_cells and min(starts.min(), lengths.min()) >= 0:
            return np.repeat(np.arange(n_groups, dtype=np.int32), lengths)
    raise MalformedPayloadError("the array 'indptr' does not fit the shape of the matrix")


def _in_32_bits(places: NDArray[Any]) -> NDArray[np.int32]:
    """Rows or columns; what does not fit, and lies outside of any matrix, becomes -1."""
    # XGBoost refuses arrays that are not aligned; in the file they begin where the header ends.
    narrow = np.require(places.astype(np.int32, copy=False), requirements="A")
    if not np.can_cast(places.dtype, np.int32):
        narrow[(places < 0) | (places > MAX_COLUMNS)] = -1
    return narrow
