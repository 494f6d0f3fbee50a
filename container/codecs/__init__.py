"""The data formats: bytes to batches, predictions to bytes.

Adding a format is one codec file and one line in a table below.
"""

from collections.abc import Callable

from container import content_types
from container.codecs import csv_codec, json_codec, libsvm_codec
from container.codecs.base import Batch, Columns, Floats
from container.errors import UnsupportedContentTypeError

Decoder = Callable[[bytes, Columns], Batch]
Encoder = Callable[[Floats], bytes]

_DECODERS: dict[str, Decoder] = {
    content_types.CSV: csv_codec.decode,
    content_types.LIBSVM: libsvm_codec.decode,
}
_ENCODERS: dict[str, Encoder] = {
    content_types.CSV: csv_codec.encode,
    content_types.JSON: json_codec.encode,
}

REQUEST_TYPES = tuple(_DECODERS)
RESPONSE_TYPES = tuple(_ENCODERS)


def decoder(content_type: str) -> Decoder:
    """The function that reads `content_type`, a name without parameters.

    Raises:
        UnsupportedContentTypeError: listing the content types that can be read.
    """
    try:
        return _DECODERS[content_type]
    except KeyError:
        raise UnsupportedContentTypeError(content_type, REQUEST_TYPES) from None


def encode(values: Floats, accept: str) -> bytes:
    """Write predictions, float32 `[n_rows]` or `[n_rows, n_outputs]`, as `accept`.

    `accept` is one of `RESPONSE_TYPES`, as `content_types.negotiate` chose it.
    """
    return _ENCODERS[accept](values)
