"""libsvm: both ways of reading it give one answer, whatever stands beside a line."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from container.codecs import text_lines
from container.codecs.libsvm import libsvm_codec
from container.codecs.records import Batch, Columns, SparseRows
from container.errors import MalformedPayloadError

# What is read in bulk, what is not, and what is not read at all, near the borders of each.
TOKENS = """
0:1 1:-2.5 2:1e3 3:.5 3:+1 4:1. 04:1 5:0 5:-0 5:-0.0 6:3.4028235e38 7:nan 8:1E-60 9:007 +1 -1.5 0
1:1:1 1 1:2, 1: :1 : 1.0:2 1e0:2 -1:2 +1:2 9:1e39 9:-1e400 9:inf 9:NaN 9:-nan 9:1_0 1_0:1 10:1
00000000001:1 12345678901:1 qid:1 qid:1 qid:2 qid:x [1] 1:[2] 1:2;3 0x1:1 ٣:1 1:٣ # #:1 #1
""".split()  # noqa: SIM905
tokens = st.builds(str.__add__, st.sampled_from([" ", " ", "  ", "\t"]), st.sampled_from(TOKENS))
labels = st.sampled_from(["", "1", "-1.5", "1:0.5", "2:3e-2", "1e39", "1:1e39", "x", " 1", "nan"])
ends = st.sampled_from(["", " ", "\r"])
lines = st.builds("{}{}{}".format, labels, st.lists(tokens, max_size=4).map("".join), ends)
PLAIN = "1 0:1.5 3:2\n" * 100  # enough to be read in bulk
PLAIN_LISTS = "1 qid:12 1:1.5 3:2\n" * 100


def outcome(text: str, columns: Columns) -> Batch | MalformedPayloadError:
    try:
        return libsvm_codec.decode(text.encode(), columns)
    except MalformedPayloadError as error:
        return error


def row(batch: Batch, index: int) -> tuple[list[int], bytes]:
    rows = batch.features
    assert isinstance(rows, SparseRows)
    cells = slice(rows.offsets[index], rows.offsets[index + 1])
    return rows.columns[cells].tolist(), rows.values[cells].tobytes()


@given(line=lines, label_size=st.sampled_from([0, 1]), base=st.sampled_from([0, 1]))
def test_libsvm_line_means_what_it_means_alone(line: str, label_size: int, base: int) -> None:
    """C-072: neither the cells of a record nor whether it is refused depend on its neighbours."""
    assume(not (label_size and "qid:" in line))  # see the next test
    columns = Columns(label_size=label_size, n_features=10, libsvm_base=base)
    plain = PLAIN.replace("0:", "1:") if base else PLAIN
    alone = outcome(f"{line}\n1 1:1", columns)

    together = outcome(f"{plain}{line}\n1 1:1", columns)

    if isinstance(alone, MalformedPayloadError):
        assert isinstance(together, MalformedPayloadError)
        assert together.line == 101
        if alone.line:  # else the first line looks like another format
            assert (together.problem, together.column) == (alone.problem, alone.column)
        return
    assert isinstance(together, Batch)
    assert together.n_rows == alone.n_rows + 100
    assert row(together, 100) == row(alone, 0)
    if label_size:
        assert together.labels is not None
        assert together.weights is not None
        assert alone.labels is not None
        assert alone.weights is not None
        assert together.labels[100:].tolist() == alone.labels.tolist()
        assert together.weights[100:].tolist() == alone.weights.tolist()


@given(line=lines)
def test_libsvm_line_of_a_list_means_what_it_means_alone(line: str) -> None:
    """C-072: query ids are read in both ways, and a record without one is found in both."""
    columns = Columns(label_size=1, n_features=10)
    alone = outcome(f"1 qid:12 1:1\n{line}", columns)

    together = outcome(f"{PLAIN_LISTS}{line}", columns)

    if isinstance(alone, MalformedPayloadError):
        assert isinstance(together, MalformedPayloadError)
        assert (together.problem, together.column) == (alone.problem, alone.column)
        return
    assert isinstance(together, Batch)
    assert together.query_ids is not None
    assert alone.query_ids is not None
    assert together.query_ids.tolist() == [12] * 99 + alone.query_ids.tolist()
    assert [row(together, index) for index in range(100, together.n_rows)] == [
        row(alone, index) for index in range(1, alone.n_rows)
    ]


@pytest.mark.parametrize("label_size", [0, 1])
def test_libsvm_in_pieces_is_what_it_is_at_once(label_size: int) -> None:
    """A body that is cut up gives the cells that were written, with their labels and weights."""
    random = np.random.default_rng(0)
    is_there = random.random((30_000, 8)) < 0.5
    values = random.normal(size=is_there.shape).round(4)
    body = b"".join(
        b"%d%s%s\n"
        % (
            index % 3,
            b":0.5" if label_size and index % 2 else b"",
            b"".join(
                b" %d:%a" % (column, float(record[column])) for column in np.flatnonzero(mask)
            ),
        )
        for index, (record, mask) in enumerate(zip(values, is_there, strict=True))
    )
    assert len(body) > 3 * text_lines.PIECE_BYTES

    batch = libsvm_codec.decode(body, Columns(label_size=label_size))

    assert isinstance(batch.features, SparseRows)
    assert batch.features.shape == is_there.shape
    np.testing.assert_array_equal(np.diff(batch.features.offsets), is_there.sum(axis=1))
    np.testing.assert_array_equal(batch.features.columns, np.nonzero(is_there)[1])
    np.testing.assert_array_equal(batch.features.values, values[is_there].astype(np.float32))
    if label_size:
        np.testing.assert_array_equal(batch.labels, np.arange(30_000) % 3)
        np.testing.assert_array_equal(batch.weights, np.where(np.arange(30_000) % 2, 0.5, 1))
    else:
        assert batch.labels is None
        assert batch.weights is None


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (
            "1 0:x",
            "line 60001, column 2: the value of token 2, for column 0, is not a finite number",
        ),
        ("", "line 60001: the line is blank"),
        ("1 0:1 28:1", "line 60001, column 3: the feature's column is not in 0 to 27"),
    ],
)
def test_libsvm_fault_in_a_later_piece_has_the_line_of_the_body(line: str, error: str) -> None:
    """C-057: lines are counted through the body, comments among them."""
    body = "# note\n" + "1 0:1.25 27:2.5\n" * 59_999 + line + "\n" + "1 0:1\n" * 60_000

    with pytest.raises(MalformedPayloadError, match=error):
        libsvm_codec.decode(body.encode(), Columns(n_features=28))


def test_libsvm_column_numbers_are_exact_to_the_last() -> None:
    """2147483646 is the largest column that XGBoost can count; it is read in either way."""
    few = libsvm_codec.decode(b"0:1 2147483646:2\n", Columns())
    many = libsvm_codec.decode(b"0:1 2147483646:2\n" * 1000, Columns())

    assert few.n_features == many.n_features == 2**31 - 1
    assert row(few, 0) == row(many, 999)
