"""Messages of refusals; the single kinds are in `tests/corpus`."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container import codecs
from container.codecs.records import Columns
from container.errors import MalformedPayloadError

TEXT_TYPES = ["text/csv", "text/libsvm", "application/json", "application/jsonlines"]


def refusal(body: bytes, content_type: str, columns: Columns) -> str:
    with pytest.raises(MalformedPayloadError) as caught:
        codecs.decoder(content_type)(body, columns)
    return caught.value.message


@pytest.mark.parametrize("content_type", TEXT_TYPES)
@given(
    secret=st.text(alphabet="qxzj", min_size=6),
    frame=st.sampled_from(
        [
            "{}",
            "1,{}",
            '[1,"{}"]',
            "1 0:{}",
            "{}=1",
            "{}%",
            '"{}',
            '[{{"{}":1}}]',
            "2024-01-01T{}",
            "{}\n1",
            "\\u{}",
        ]
    ),
)
def test_refusal_never_quotes_the_payload(content_type: str, secret: str, frame: str) -> None:
    """C-057: a message is logged and shown; the payload is neither's business."""
    assert secret not in refusal(frame.format(secret).encode(), content_type, Columns())


@pytest.mark.parametrize("content_type", TEXT_TYPES)
@pytest.mark.parametrize(
    "body",
    [
        b"a," * 100_000,
        b"a;" * 100_000,
        b"1 " * 100_000 + b"x",
        b"a" * 200_000,
        b"1" * 200_000 + b"x",
        b'"' * 200_000,
        b'",' * 100_000,
        b"1_" * 100_000,
        b"[" + b"]" * 200_000,
        b"] \t" * 50_000,
        b"a\n" * 100_000,
        b"1:1 " * 50_000 + b"x",
        b"PK\x03\x04" + b"a" * 200_000,
    ],
)
def test_refusal_of_long_text_takes_milliseconds(content_type: str, body: bytes) -> None:
    """A diagnosis looks at a bounded part of a body, without going back and forth in it."""
    started = time.thread_time()

    refusal(body, content_type, Columns(n_features=3))

    assert time.thread_time() - started < 0.5
