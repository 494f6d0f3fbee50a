"""CSV: every way of reading it gives one answer, whatever stands beside a line."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from container.codecs import text_lines
from container.codecs.csv import csv_codec
from container.codecs.records import Columns, Floats
from container.errors import MalformedPayloadError

# What the quick ways read, what they do not, and what nothing reads, near the borders of each.
CELLS = """
0 -0 -0.0 1 7.25 -3e-2 1E5 1e-60 123456789012345678901234567890 3.4028235e38 3.40282357e38
+1 .5 -.5 1. 01 -01.50 1e+05 +.5e-3 nan NaN na NA null NULL "1" "" "nan" "+1"
3.4028236e38 1e39 -1e39 1e40 1e400 1e39e 21e39 0.1e39 +nan -nan inf -inf infinity 1_0 0x10 1e5e5
. + - e5 1e 1-2 +-1 "1"2" [1] {"a":1} ! ,! true x nan(1) \u0663 1\u0663
""".split()  # noqa: SIM905
cells = st.sampled_from(["", " ", " 1", "1 ", "1 2", "\t1", "1\r", '" 2 "', '"1 1"', *CELLS])
PLAIN = ["1,2", "nan,2", '"1",+2', ",.5"]  # of two columns, each read another way


def outcome(body: bytes, columns: Columns) -> Floats | MalformedPayloadError:
    try:
        features = csv_codec.decode(body, columns).features
    except MalformedPayloadError as error:
        return error
    assert isinstance(features, np.ndarray)
    return features


@given(row=st.tuples(cells, cells), others=st.lists(st.sampled_from(PLAIN), max_size=3))
def test_csv_line_means_what_it_means_alone(row: tuple[str, str], others: list[str]) -> None:
    """C-072: neither the numbers of a record nor whether it is refused depend on its neighbours."""
    line = ",".join(row)
    alone = outcome(f"{line}\n".encode(), Columns(n_features=2))

    together = outcome("\n".join([*others, line, "3,4"]).encode(), Columns(n_features=2))

    if isinstance(alone, MalformedPayloadError):
        assert isinstance(together, MalformedPayloadError)
        # What its fault is called may depend on the next line, as that of a header does, and on
        # whether it is the first one, as that of another format does.
        assert together.line == len(others) + 1 or not (others or together.line)
    else:
        assert isinstance(together, np.ndarray)
        # Bit by bit: zeros have no sign.
        assert together[len(others)].tobytes() == alone[0].tobytes()


@given(st.lists(st.lists(cells, min_size=1, max_size=3), min_size=1, max_size=4))
def test_csv_of_one_column_keeps_its_records(rows: list[list[str]]) -> None:
    """C-072: as many records as lines, or a refusal; a gap is never mistaken for a blank line."""
    lines = [";".join(row) for row in rows]

    found = outcome("\n".join(lines).encode(), Columns())

    if not isinstance(found, MalformedPayloadError):
        n_trailing = len(lines) - len("\n".join(lines).rstrip("\r\n").split("\n"))
        assert len(found) == len(lines) - n_trailing


@pytest.mark.parametrize("n_blank", [1, 2, 3])
def test_csv_blank_line_where_a_piece_ends_is_found(n_blank: int) -> None:
    """C-072: of one column, where nothing in the line itself tells it from a gap."""
    n_lines = text_lines.PIECE_BYTES // 8
    body = b"1111111\n" * (n_lines - 1) + b"111111\n" + b"\n" * n_blank + b"5\n" * 10

    with pytest.raises(MalformedPayloadError, match=f"line {n_lines + 1}: the line is blank"):
        csv_codec.decode(body, Columns(n_features=1))


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1, 7, 64, 10**6])
def test_pieces_hold_every_line_once(line_end: bytes, size: int) -> None:
    """Lines longer than a piece, shorter ones and blank ones, up to the last that is not blank."""
    lines = [b"1", b"", b"22,3333333333", b"4" * 300, b"", b"", b"5"]
    body = b"\xef\xbb\xbf" + line_end.join(lines) + line_end * 5000

    found = [piece.split(line_end) for piece in text_lines.pieces(body, size)]

    assert [line for piece in found for line in piece] == lines


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("label_size", [0, 1])
def test_csv_in_pieces_is_what_it_is_at_once(line_end: bytes, label_size: int) -> None:
    """A body that is cut up gives the records that each of its lines gives."""
    rows = np.random.default_rng(0).normal(size=(40_000, 3)).round(4)
    body = b"".join(
        b"%s%s" % (",".join(map(repr, row)).encode(), line_end) for row in rows.tolist()
    )
    assert len(body) > 3 * text_lines.PIECE_BYTES

    batch = csv_codec.decode(body, Columns(label_size=label_size))

    expected = rows.astype(np.float32)
    np.testing.assert_array_equal(batch.features, expected[:, label_size:])
    if label_size:
        np.testing.assert_array_equal(batch.labels, expected[:, 0])


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"1,2,3", "line 60000: the line has 3 columns where 2 are expected"),
        (b"1,x", "line 60000, column 2: the cell is text"),
        (b"", "line 60000: the line is blank"),
        (b"1\r2", "line 60000: the line has a carriage return"),
        (b"1,1e39", "line 60000, column 2: the number does not fit"),
    ],
)
def test_csv_fault_in_a_later_piece_has_the_line_of_the_body(line: bytes, error: str) -> None:
    """C-057: lines are counted through the body, not through its pieces."""
    body = b"1.25,2.5\r\n" * 59_999 + line + b"\r\n" + b"3,4\r\n" * 60_000

    with pytest.raises(MalformedPayloadError, match=error):
        csv_codec.decode(body, Columns(n_features=2))


def test_csv_of_other_width_is_refused_before_it_is_read() -> None:
    """A line of a million cells costs a look when two are expected."""
    found = outcome(b"1," * 1_000_000 + b"1\n", Columns(n_features=2))

    assert isinstance(found, MalformedPayloadError)
    assert found.message == "line 1: the line has 1000001 columns where 2 are expected"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"3,4,1e40,5,6", "line 2: the line has 5 columns where 2 are expected"),
        (b"3,4,1e39,5,6", "line 2: the line has 5 columns where 2 are expected"),
        (b"3,1e40", "line 2, column 2: the number does not fit a 32-bit float"),
        (b"3", "line 2: the line has 1 column where 2 are expected"),
        (b"3,4,5", "line 2: the line has 3 columns where 2 are expected"),
    ],
)
@pytest.mark.parametrize("rest", [b"", b"7\n", b"7,8\n", b"7,8,9\n", b"7,8,1e40,9\n", b",8\n"])
def test_csv_line_of_other_width_is_found_whatever_makes_up_for_it(
    line: bytes, error: str, rest: bytes
) -> None:
    """C-057: neither the number of all cells nor a cell that is like a line's end hides it."""
    with pytest.raises(MalformedPayloadError, match=error):
        csv_codec.decode(b"1,2\n" + line + b"\n" + rest, Columns(n_features=2))


def test_csv_of_one_column_is_as_wide_as_expected() -> None:
    """The label counts among the columns of a line and not among the features."""
    found = outcome(b"0,1\n", Columns(label_size=1, n_features=2))

    assert isinstance(found, MalformedPayloadError)
    assert found.message == (
        "line 1: the line has 2 columns where 3 are expected: a label, 2 features"
    )


def test_csv_in_threads_is_what_it_is_alone() -> None:
    """Every thread has its own parser, and none changes what all share, such as warning filters."""
    bodies = [f"{number},,{line}\n".encode() * 200 for number in range(8) for line in (1, ".5")]
    alone = [csv_codec.decode(body, Columns()).features for body in bodies]
    filters = list(warnings.filters)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda body: csv_codec.decode(body, Columns()), bodies * 20))

    for expected, batch in zip(alone * 20, together, strict=True):
        np.testing.assert_array_equal(batch.features, expected)
    assert warnings.filters == filters
