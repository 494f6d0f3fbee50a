import io
import json
import struct

import numpy as np
import pytest

from container import codecs
from container.codecs.recordio.record_message import record_class
from container.codecs.records import Columns
from container.errors import UnsupportedContentTypeError

SCORES = np.array([0.43, 1.0, 2.5e-8], dtype=np.float32)
PROBABILITIES = np.array([[0.1, 0.9], [0.75, 0.25]], dtype=np.float32)


def test_csv_separates_several_outputs_by_commas() -> None:
    """A multi-class record stays one line, without brackets."""
    assert codecs.encode(PROBABILITIES, "text/csv") == b"0.1,0.9\n0.75,0.25\n"


def test_json_is_the_shape_of_the_built_in_algorithm() -> None:
    """C-098: one object a record, in input order."""
    assert codecs.encode(SCORES, "application/json") == (
        b'{"predictions":[{"score":0.43},{"score":1.0},{"score":2.5e-8}]}'
    )


def test_json_of_several_outputs_makes_score_a_list() -> None:
    """Gives the probabilities of multi:softprob as a list (C-098)."""
    assert json.loads(codecs.encode(PROBABILITIES, "application/json")) == {
        "predictions": [{"score": [0.1, 0.9]}, {"score": [0.75, 0.25]}]
    }


def test_values_that_are_not_numbers_stay_readable() -> None:
    """CSV has words for them; JSON has none, so it says null rather than something illegal."""
    values = np.array([np.inf, np.nan, 1], dtype=np.float32)

    assert codecs.encode(values, "text/csv") == b"inf\nnan\n1.0\n"
    assert json.loads(codecs.encode(values, "application/json")) == {
        "predictions": [{"score": None}, {"score": None}, {"score": 1.0}]
    }


def test_every_float_survives_the_trip_through_text() -> None:
    """The shortest text that gives the same 32-bit float back is what is written."""
    bits = np.random.default_rng(0).integers(0, 2**31, 5000, dtype=np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]

    text = codecs.encode(values, "text/csv").decode().split()

    np.testing.assert_array_equal(np.array(text, dtype=np.float32), values)


def test_decoder_unknown_type_lists_what_can_be_read() -> None:
    """C-054: the client learns what to send."""
    with pytest.raises(UnsupportedContentTypeError, match="text/csv, text/libsvm"):
        codecs.decoder("text/xml")


def test_libsvm_record_does_not_depend_on_its_neighbours() -> None:
    """Reads a row alone as beside one with column 0."""
    decode = codecs.decoder("text/libsvm")
    alone = decode(b"1:5 2:6\n", Columns()).features
    together = decode(b"1:5 2:6\n0:1\n", Columns()).features

    assert not isinstance(alone, np.ndarray)
    assert not isinstance(together, np.ndarray)
    assert alone.columns.tolist() == together.columns[:2].tolist() == [1, 2]


OUTPUTS = {
    "predicted_label": np.array([1, 0]),
    "labels": np.array([[0, 1], [0, 1]]),
    "probability": np.array([0.6, 1e-7], dtype=np.float32),
    "probabilities": np.array([[0.4, 0.6], [1, 1e-7]], dtype=np.float32),
    "raw_score": np.array([np.nan, np.nan], dtype=np.float32),
}


def test_named_csv_has_lists_in_quotes_and_integers_as_such() -> None:
    """C-099: `"[0.4, 0.6]"` in the order of the keys, and `nan` for a key that does not apply."""
    assert codecs.encode_named(OUTPUTS, "text/csv") == (
        b'1,"[0, 1]",0.6,"[0.4, 0.6]",nan\n0,"[0, 1]",1e-7,"[1.0, 1e-7]",nan\n'
    )


def test_named_json_is_an_object_a_record() -> None:
    """C-099: the keys instead of the score; null where AWS's image writes NaN, no JSON."""
    assert codecs.encode_named(OUTPUTS, "application/json") == (
        b'{"predictions":['
        b'{"predicted_label":1,"labels":[0,1],"probability":0.6,"probabilities":[0.4,0.6],'
        b'"raw_score":null},'
        b'{"predicted_label":0,"labels":[0,1],"probability":1e-7,"probabilities":[1.0,1e-7],'
        b'"raw_score":null}]}'
    )


def test_named_json_lines_are_the_same_objects() -> None:
    """C-099: also for application/jsonlines."""
    lines = codecs.encode_named(OUTPUTS, "application/jsonlines")

    as_json = json.loads(codecs.encode_named(OUTPUTS, "application/json"))
    assert lines.endswith(b"}\n")
    assert [json.loads(line) for line in lines.splitlines()] == as_json["predictions"]


def test_recordio_of_scores_is_a_frame_a_record() -> None:
    """Holds the float32 tensor `score` in the label map, compared byte by byte (C-098)."""
    entry = b"\x0a\x05score\x12\x08\x12\x06\x0a\x04"  # key, Value, Float32Tensor, packed values
    record = b"\x12\x11" + entry  # Record.label

    assert codecs.encode(SCORES[:2], "application/x-recordio-protobuf") == b"".join(
        struct.pack("<II", 0xCED7230A, 19) + record + struct.pack("<f", score) + b"\0"
        for score in SCORES[:2]
    )


def test_named_recordio_has_a_tensor_for_every_key() -> None:
    """Writes lists as tensors, and NaN for a key that does not apply (C-099)."""
    body = codecs.encode_named(OUTPUTS, "application/x-recordio-protobuf")

    size = len(body) // 2
    for number, start in enumerate((0, size)):
        magic, length = struct.unpack_from("<II", body, start)
        record = record_class().FromString(body[start + 8 : start + 8 + length])
        assert magic == 0xCED7230A
        assert set(record.label) == set(OUTPUTS)
        assert not record.features
        for key, column in OUTPUTS.items():
            values = record.label[key].float32_tensor.values[:]
            np.testing.assert_array_equal(values, np.atleast_1d(column[number]))


def test_npy_is_the_array_of_predictions() -> None:
    """NumPy itself reads them back, one dimension for one output."""
    for values in (SCORES, PROBABILITIES):
        found = np.load(io.BytesIO(codecs.encode(values, "application/x-npy")))

        np.testing.assert_array_equal(found, values, strict=True)


@pytest.mark.parametrize(
    ("accept", "body"),
    [
        ("application/jsonlines", b'{"score":0.43}\n{"score":1.0}\n{"score":2.5e-8}\n'),
        ("text/csv", b"0.43\n1.0\n2.5e-8\n"),
    ],
)
def test_line_formats_end_every_record_with_a_line_end(accept: str, body: bytes) -> None:
    """C-073: answers of consecutive requests can be joined byte by byte."""
    assert codecs.encode(SCORES, accept) == body
    assert codecs.encode(SCORES[:1], accept) + codecs.encode(SCORES[1:], accept) == body
