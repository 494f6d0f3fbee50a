"""`application/json`: predictions as `{"predictions": [{"score": …}, …]}` (C-098)."""

import numpy as np
import orjson

from container.codecs.base import Floats


def encode(values: Floats) -> bytes:
    """Write one object a record, in order; several outputs make `score` a list.

    A value that JSON cannot say (NaN, infinity) is written as null.
    """
    if not len(values):
        return b'{"predictions":[]}'
    scores = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    between = b'},{"score":'
    if values.ndim == 1:
        listed = scores[1:-1].replace(b",", between)
    else:
        listed = scores[1:-1].replace(b"],[", b"]" + between + b"[")
    return b'{"predictions":[{"score":' + listed + b"}]}"
