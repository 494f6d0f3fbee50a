"""Decoders, and nothing after them, refuse records of another width than the model's."""

import io
import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from container import codecs, content_types
from container.codecs import request_columns
from container.errors import MalformedPayloadError
from tests.corpus.binary_bodies import floats, frames, record, tensor

N_FEATURES = 3
Encoder = Callable[[Sequence[float]], bytes]


def _npy(values: Sequence[float]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([values], dtype=np.float32))
    return stream.getvalue()


def _npz(values: Sequence[float]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, np.array([values], dtype=np.float32))
    return stream.getvalue()


def _parquet(values: Sequence[float]) -> bytes:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    stream = io.BytesIO()
    pq.write_table(pa.table({f"c{index}": [value] for index, value in enumerate(values)}), stream)
    return stream.getvalue()


ENCODERS: dict[str, Encoder] = {
    content_types.CSV: lambda values: ",".join(map(str, values)).encode(),
    content_types.LIBSVM: lambda values: " ".join(
        f"{index}:{value}" for index, value in enumerate(values)
    ).encode(),
    content_types.JSON: lambda values: json.dumps([list(values)]).encode(),
    content_types.JSON_LINES: lambda values: json.dumps({"features": list(values)}).encode(),
    content_types.NPY: _npy,
    content_types.NPZ: _npz,
    content_types.PARQUET: _parquet,
    content_types.RECORDIO: lambda values: frames(record(tensor(2, floats(*values)))),
}


@pytest.mark.parametrize("content_type", codecs.REQUEST_TYPES)
@pytest.mark.parametrize("width", [N_FEATURES - 1, N_FEATURES, N_FEATURES + 1])
def test_decoders_refuse_records_of_another_width(content_type: str, width: int) -> None:
    """A missing column is never a missing value (C-057); sparse records may be narrower."""
    columns = request_columns.of_content_type({}, N_FEATURES)
    body = ENCODERS[content_type]([1.5] * width)
    decode = codecs.decoder(content_type)

    if width == N_FEATURES or (width < N_FEATURES and content_type == content_types.LIBSVM):
        assert decode(body, columns).features.shape == (1, width)
        return
    with pytest.raises(MalformedPayloadError):
        decode(body, columns)
