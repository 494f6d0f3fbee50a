"""`application/x-recordio-protobuf`: RecordIO frames, each with one protobuf `Record`.

A frame is the magic number, the length, the record, and zeros up to a multiple of 4 bytes. Features
are the tensor `features["values"]`, dense or sparse throughout a body. A sparse tensor has column
numbers in `keys`, counted from 0, and the number of columns in `shape`; a column without a key is
missing. A required label is `label["values"]`. Other entries are ignored, as AWS's readers do.

Predictions are records with the float32 tensor `label["score"]`, as those of the linear learner.
"""

import struct
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np

from container import content_types
from container.codecs import diagnosis
from container.codecs.recordio.record_message import record_class
from container.codecs.records import Batch, Columns, Floats, NamedOutputs, check_finite
from container.codecs.sparse import SparseRecords
from container.errors import MalformedPayloadError, counted

_MAGIC = 0xCED7230A
_HEADER = struct.Struct("<II")
_TENSORS = frozenset({"float32_tensor", "float64_tensor", "int32_tensor"})


def decode(body: bytes, columns: Columns) -> Batch:
    """Read records; a label is required where `columns` has one.

    Records have no weights, so `columns.has_weight`, which speaks of CSV, changes nothing.

    Raises:
        MalformedPayloadError: with the number, from 1, of the record that cannot be read.
    """
    try:
        return _decode(body, columns)
    except MalformedPayloadError as error:
        raise diagnosis.explained(error, body, content_types.RECORDIO) from None


def _decode(body: bytes, columns: Columns) -> Batch:
    parse = record_class().FromString
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    records = _Records(columns)
    with np.errstate(over="ignore"):  # a number that does not fit becomes infinite, and is refused
        for number, payload in enumerate(_payloads(body), start=1):
            try:
                records.add(parse(payload))
            except DecodeError as error:
                raise MalformedPayloadError(
                    "the frame does not hold a protobuf message of the type Record", record=number
                ) from error
            except ValueError as error:
                raise MalformedPayloadError(str(error), record=number) from error
    return records.batch()


def encode(values: Floats) -> bytes:
    """Write one record a prediction, float32 `[n_rows]` or `[n_rows, n_outputs]`."""
    return _frames({"score": values})


def encode_named(outputs: NamedOutputs) -> bytes:
    """Write one record a prediction, with a float32 tensor for every output."""
    return _frames(outputs)


def whole_frames(data: bytes | bytearray, n_bytes: int) -> tuple[int, int]:
    """Find the last frame boundary in `data`, the next `n_bytes` of a longer stream.

    Returns:
        The length of the leading part that `decode` can read on its own, and its number of frames.
        Bytes that are not a frame belong to that part, so that `decode` refuses them.
    """
    offset, n_frames = 0, 0
    while n_bytes - offset >= _HEADER.size:
        magic, length = _HEADER.unpack_from(data, offset)
        if magic != _MAGIC:
            return n_bytes, n_frames
        end = offset + _HEADER.size + length + -length % 4
        if end > n_bytes:
            break
        offset = end
        n_frames += 1
    return offset, n_frames


def _payloads(body: bytes) -> Iterator[bytes]:
    offset, number = 0, 0
    while offset < len(body):
        number += 1
        if len(body) - offset < _HEADER.size:
            raise MalformedPayloadError("the frame is truncated", record=number)
        magic, length = _HEADER.unpack_from(body, offset)
        if magic != _MAGIC:
            raise MalformedPayloadError(
                "the RecordIO magic number 0xced7230a is missing at the start of the frame",
                record=number,
            )
        start = offset + _HEADER.size
        end = start + length
        offset = end + -length % 4
        if offset > len(body):
            raise MalformedPayloadError(
                f"the frame is truncated: it announces {counted(length, 'byte')} and "
                f"{len(body) - start} follow",
                record=number,
            )
        if any(body[end:offset]):
            raise MalformedPayloadError("the padding of the frame is not zero", record=number)
        yield body[start:end]


class _Records:
    """Collector of the records of one body; raises `ValueError` for a record at fault."""

    def __init__(self, columns: Columns) -> None:
        self._label_required = columns.label_size > 0
        self._n_expected = columns.n_features  # without the label, which is not among the features
        self._width = columns.n_features or 0  # or as the first record has it
        self._rows = bytearray()  # of float32
        self._sparse = SparseRecords(columns)
        self._labels = array("f")

    def add(self, record: Any) -> None:
        tensor = _tensor(record.features, "features")
        n_keys, n_values, width = len(tensor.keys), len(tensor.values), None
        if tensor.shape:
            if len(tensor.shape) > 1:
                raise ValueError(
                    f"the shape has {len(tensor.shape)} dimensions; give the width only"
                )
            width = tensor.shape[0]
        is_sparse = n_keys or (width and not n_values)
        # Before the numbers become Python objects: a number of one byte then takes forty.
        if is_sparse:
            self._check_cells(n_keys, n_values)
        else:
            self._check_row(n_values, width)
        values = np.array(tensor.values[:], dtype=np.float32)
        if is_sparse:
            self._sparse.add(np.array(tensor.keys[:], dtype=np.uint64), values, width)
        else:
            self._rows += values.data
        if self._label_required:
            label = _tensor(record.label, "label")
            if len(label.values) != 1:
                raise ValueError(
                    f"the record has {counted(len(label.values), 'label')}; one is required"
                )
            self._labels.append(_fitting(np.float32(label.values[0])))

    def _check_cells(self, n_keys: int, n_values: int) -> None:
        if self._rows:
            raise ValueError("the record has keys where the first has none")
        if n_keys != n_values:
            raise ValueError(
                f"the record has {counted(n_keys, 'key')} and {counted(n_values, 'value')}"
            )
        if self._n_expected is not None and n_values > self._n_expected:
            raise ValueError(
                f"the record has {n_values} values for {counted(self._n_expected, 'column')}"
            )

    def _check_row(self, n_values: int, width: int | None) -> None:
        if len(self._sparse):
            raise ValueError("the record has no keys where the first has some")
        if width not in (None, n_values):
            raise ValueError(
                f"the shape is {width} and the record has {counted(n_values, 'value')}"
            )
        if not n_values:
            raise ValueError("the record is empty")
        self._width = self._width or n_values
        if n_values != self._width:
            expected = Columns(n_features=self._n_expected).expectation
            others = expected or f"the first has {self._width}"
            raise ValueError(f"the record has {counted(n_values, 'value')} where {others}")

    def batch(self) -> Batch:
        labels = np.array(self._labels, dtype=np.float32) if self._label_required else None
        if len(self._sparse):
            return Batch(self._sparse.rows(), labels)
        if not self._rows:
            raise MalformedPayloadError("there are no records")
        rows = np.frombuffer(self._rows, dtype=np.float32).reshape(-1, self._width)
        check_finite(rows)
        return Batch(rows, labels)


def _fitting(label: np.float32) -> float:
    if np.isinf(label):
        raise ValueError("the label does not fit a 32-bit float")
    return float(label)


def _tensor(entries: Any, name: str) -> Any:
    if "values" not in entries:
        raise ValueError(f"the record has no {name}['values']")
    value = entries["values"]
    kind = value.WhichOneof("value")
    if kind not in _TENSORS:
        raise ValueError(f"{name}['values'] is not a tensor of float32, float64 or int32")
    return getattr(value, kind)


def _frames(labels: NamedOutputs) -> bytes:
    """Records of float32 tensors, `[n_rows]` or `[n_rows, k]` each.

    All records have the same layout: one is serialised, and the numbers are written into copies.
    """
    columns = {name: values.reshape(len(values), -1) for name, values in labels.items()}
    template = b""
    offsets = {}
    for name, values in columns.items():
        record = record_class()()
        record.label[name].float32_tensor.values.extend([0.0] * values.shape[1])
        # Serialised messages are merged by concatenation; the values come last in each.
        template += record.SerializeToString()
        offsets[name] = _HEADER.size + len(template) - 4 * values.shape[1]
    frame = _HEADER.pack(_MAGIC, len(template)) + template + bytes(-len(template) % 4)
    n_rows = len(next(iter(columns.values())))
    frames = np.tile(np.frombuffer(frame, dtype=np.uint8), (n_rows, 1))
    for name, values in columns.items():
        numbers = np.ascontiguousarray(values, dtype="<f4").view(np.uint8)
        frames[:, offsets[name] : offsets[name] + numbers.shape[1]] = numbers
    return frames.tobytes()
