"""Defaults of a script without `input_fn` or `output_fn`.

As those of AWS's sagemaker-inference-toolkit 1.10.1 they decode a body into an array of any shape,
and encode an array-like prediction as bare JSON, CSV or NPY. They differ in this:

- CSV is always float32 `[n_rows, n_columns]`. The toolkit guesses a type from the rows of each
  request, and one row has one dimension.
- Nothing is unpickled (`application/x-npy` of objects), and a body that does not match its content
  type is 400.
- All other formats of this container are decoded, too; sparse rows become a SciPy matrix.
"""

import csv
import io
from collections.abc import Callable
from datetime import date
from numbers import Number
from typing import Any

import numpy as np
import orjson

from container import content_types
from container.codecs import request_columns
from container.codecs.csv import csv_codec
from container.codecs.json import json_text
from container.codecs.records import SparseRows
from container.content_types import MediaType
from container.errors import MalformedPayloadError
from serve.runtime import decoder_pool

# The first one is the toolkit's default.
RESPONSE_TYPES = (content_types.JSON, content_types.CSV, content_types.NPY)
_CELLS = (str, Number, np.generic, date, type(None))


def decode(
    body: bytes,
    media: MediaType,
    libsvm_base: int | None = 0,
    feature_names: tuple[str, ...] | None = None,
) -> Any:
    """Decode a request body into an array, or a SciPy matrix in compressed sparse row form.

    Args:
        body: The request body, decompressed.
        media: Its content type.
        libsvm_base: See `container.codecs.records.Columns`.
        feature_names: Likewise.
    Raises:
        UnsupportedContentTypeError: no decoder reads the content type.
        MalformedPayloadError: the body does not match it.
    """
    read = _DECODERS.get(media.name)
    return read(body) if read else _with_codec(body, media, libsvm_base, feature_names)


def encode(prediction: Any, media_type: str) -> bytes:
    """Encode a prediction as one of `RESPONSE_TYPES`; as CSV and NPY it must be array-like.

    Raises:
        TypeError, ValueError: the prediction cannot be encoded so; the user's code is at fault.
    """
    return _ENCODERS[media_type](prediction)


def to_json(value: Any) -> bytes:
    """Encode a value as JSON without an envelope; NaN becomes null, since JSON has no NaN."""
    return orjson.dumps(value, _to_list, orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def _to_list(value: Any) -> Any:
    """Convert a value that orjson cannot encode: a tensor, or an array that is not contiguous."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def _from_json(body: bytes) -> Any:
    document = json_text.load(body)
    has_objects = isinstance(document, list) and document and isinstance(document[0], dict)
    if isinstance(document, dict) or has_objects:
        return _with_codec(body, MediaType(content_types.JSON))
    try:
        array = np.array(document)
        return array if array.dtype != object else array.astype(np.float64)  # null becomes NaN
    except (ValueError, TypeError, OverflowError) as error:
        raise MalformedPayloadError(
            "the rows of the JSON array differ in length, or its values in type"
        ) from error


def _from_npy(body: bytes) -> Any:
    try:
        return np.lib.format.read_array(io.BytesIO(body), allow_pickle=False)
    except Exception as error:  # a forged header fails in many ways
        raise MalformedPayloadError("the body is not an NPY array of numbers or text") from error


def _with_codec(
    body: bytes,
    media: MediaType,
    libsvm_base: int | None = 0,
    feature_names: tuple[str, ...] | None = None,
) -> Any:
    columns = request_columns.of_content_type(
        media.parameters, libsvm_base=libsvm_base, feature_names=feature_names
    )
    features = decoder_pool.decoder(media.name)(body, columns).features
    if not isinstance(features, SparseRows):
        return features
    from scipy.sparse import csr_matrix

    cells = (features.values, features.columns, features.offsets)
    return csr_matrix(cells, shape=features.shape)


def _to_npy(prediction: Any) -> bytes:
    array = np.asarray(prediction)
    if array.dtype.hasobject:
        raise _not_written(prediction, content_types.NPY)
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _to_csv(prediction: Any) -> bytes:
    """Write one line a record, with commas between several outputs."""
    rows = np.asarray(prediction)
    if rows.ndim > 2:
        raise ValueError(
            f"a prediction of shape {rows.shape} cannot be written as CSV, which has two "
            "dimensions; write it with output_fn"
        )
    if rows.size and rows.ndim and rows.dtype in (np.float32, np.float64):
        return csv_codec.encode(rows)  # in a tenth of the time of a CSV writer
    # The columns of a table may have different types; a dict in a cell would be Python's notation.
    if rows.dtype == object and not all(isinstance(cell, _CELLS) for cell in rows.flat):
        raise _not_written(prediction, content_types.CSV)
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(
        rows if rows.ndim == 2 else rows.reshape(-1, 1)
    )
    return stream.getvalue().encode()


def _not_written(prediction: Any, media_type: str) -> TypeError:
    return TypeError(
        f"predict_fn returned a {type(prediction).__name__} that cannot be written as {media_type}:"
        " it is not an array of numbers or text; write it with output_fn, or ask for JSON"
    )


_DECODERS: dict[str, Callable[[bytes], Any]] = {
    content_types.JSON: _from_json,
    content_types.NPY: _from_npy,
}
_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    content_types.JSON: to_json,
    content_types.CSV: _to_csv,
    content_types.NPY: _to_npy,
}
