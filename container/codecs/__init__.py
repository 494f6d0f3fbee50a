"""Codecs of the data formats: bytes to batches, predictions to bytes.

Adding a format is one codec file and one line in a table below.
"""

from collections.abc import Callable

from container import content_types
from container.codecs import npy_codec, parquet_codec
from container.codecs.csv import csv_codec
from container.codecs.json import json_codec, jsonlines_codec
from container.codecs.libsvm import libsvm_codec
from container.codecs.recordio import recordio_codec
from container.codecs.records import Batch, Columns, Floats, NamedOutputs
from container.errors import UnsupportedContentTypeError

Decoder = Callable[[bytes, Columns], Batch]
Encoder = Callable[[Floats], bytes]
NamedEncoder = Callable[[NamedOutputs], bytes]

_DECODERS: dict[str, Decoder] = {
    content_types.CSV: csv_codec.decode,
    content_types.LIBSVM: libsvm_codec.decode,
    content_types.JSON: json_codec.decode,
    content_types.JSON_LINES: jsonlines_codec.decode,
    content_types.RECORDIO: recordio_codec.decode,
    content_types.NPY: npy_codec.decode,
    content_types.NPZ: npy_codec.decode_npz,
    content_types.PARQUET: parquet_codec.decode,
}
_ENCODERS: dict[str, Encoder] = {
    content_types.CSV: csv_codec.encode,
    content_types.JSON: json_codec.encode,
    content_types.JSON_LINES: jsonlines_codec.encode,
    content_types.RECORDIO: recordio_codec.encode,
    content_types.NPY: npy_codec.encode,
}
_NAMED_ENCODERS: dict[str, NamedEncoder] = {
    content_types.CSV: csv_codec.encode_named,
    content_types.JSON: json_codec.encode_named,
    content_types.JSON_LINES: jsonlines_codec.encode_named,
    content_types.RECORDIO: recordio_codec.encode_named,
}

REQUEST_TYPES = tuple(_DECODERS)
RESPONSE_TYPES = tuple(_ENCODERS)
NAMED_TYPES = tuple(_NAMED_ENCODERS)
# Compressed or run-length coded: a small body may unpack to very many records, up to the
# decompression-bomb limit in `records`.
PACKED_TYPES = frozenset({content_types.NPZ, content_types.PARQUET})


def decoder(content_type: str) -> Decoder:
    """Return the function that reads `content_type`, a name without parameters.

    Raises:
        UnsupportedContentTypeError: listing the content types that can be read, or naming the
            library that is missing.
    """
    if content_type == content_types.PARQUET and not parquet_codec.is_available():
        others = tuple(name for name in REQUEST_TYPES if name != content_type)
        raise UnsupportedContentTypeError(f"{content_type} without pyarrow installed", others)
    try:
        return _DECODERS[content_type]
    except KeyError:
        raise UnsupportedContentTypeError(content_type, REQUEST_TYPES) from None


def encode(values: Floats, accept: str) -> bytes:
    """Write predictions, float32 `[n_rows]` or `[n_rows, n_outputs]`, as `accept`.

    `accept` is one of the algorithm's response types, as `content_types.negotiate` chose it.
    """
    return _ENCODERS[accept](values)


def encode_named(outputs: NamedOutputs, accept: str) -> bytes:
    """Write the named outputs of every record as `accept`, one of `NAMED_TYPES`."""
    return _NAMED_ENCODERS[accept](outputs)
