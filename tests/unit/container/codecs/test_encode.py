import json

import numpy as np
import pytest

from container import codecs
from container.codecs.base import Columns
from container.errors import MalformedPayloadError, UnsupportedContentTypeError

SCORES = np.array([0.43, 1.0, 2.5e-8], dtype=np.float32)
PROBABILITIES = np.array([[0.1, 0.9], [0.75, 0.25]], dtype=np.float32)


def test_csv_is_one_line_a_record_with_a_final_newline() -> None:
    """C-073, C-098: answers of consecutive requests can be joined byte by byte."""
    assert codecs.encode(SCORES, "text/csv") == b"0.43\n1.0\n2.5e-8\n"


def test_csv_separates_several_outputs_by_commas() -> None:
    """A multi-class record stays one line, without brackets."""
    assert codecs.encode(PROBABILITIES, "text/csv") == b"0.1,0.9\n0.75,0.25\n"


def test_json_is_the_shape_of_the_built_in_algorithm() -> None:
    """C-098: one object a record, in input order."""
    assert codecs.encode(SCORES, "application/json") == (
        b'{"predictions":[{"score":0.43},{"score":1.0},{"score":2.5e-8}]}'
    )


def test_json_of_several_outputs_makes_score_a_list() -> None:
    """CONTRACT 7.4: multi:softprob gives a list of probabilities."""
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


def test_csv_label_and_weight_columns_are_split_off() -> None:
    """C-038: the label is column 0; csv_weights=1 puts the weight in column 1."""
    batch = codecs.decoder("text/csv")(b"1,0.5,7,8\n0,2,9,10\n", Columns(1, has_weight=True))

    assert batch.labels is not None
    assert batch.weights is not None
    assert batch.labels.tolist() == [1, 0]
    assert batch.weights.tolist() == [0.5, 2]
    assert np.array_equal(batch.features, [[7, 8], [9, 10]])


def test_csv_without_a_feature_column_is_refused() -> None:
    """A file of labels only is not training data."""
    with pytest.raises(MalformedPayloadError, match="no features are left"):
        codecs.decoder("text/csv")(b"1\n0\n", Columns(label_size=1))


def test_libsvm_weight_follows_the_label() -> None:
    """`label:weight` where labels are required; a record without one weighs 1."""
    batch = codecs.decoder("text/libsvm")(b"1:0.5 0:2\n0 0:3\n", Columns(label_size=1))

    assert batch.labels is not None
    assert batch.weights is not None
    assert batch.labels.tolist() == [1, 0]
    assert batch.weights.tolist() == [0.5, 1]


def test_libsvm_missing_label_is_refused_where_labels_are_required() -> None:
    """Training data without a label names the line."""
    with pytest.raises(MalformedPayloadError, match="line 2, column 1: the label"):
        codecs.decoder("text/libsvm")(b"1 0:2\nx 0:3\n", Columns(label_size=1))


def test_libsvm_record_does_not_depend_on_its_neighbours() -> None:
    """PITFALLS C-1: the same row alone and beside one with column 0 is the same record."""
    decode = codecs.decoder("text/libsvm")
    alone = decode(b"1:5 2:6\n", Columns()).features
    together = decode(b"1:5 2:6\n0:1\n", Columns()).features

    assert not isinstance(alone, np.ndarray)
    assert not isinstance(together, np.ndarray)
    assert alone.columns.tolist() == together.columns[:2].tolist() == [1, 2]
