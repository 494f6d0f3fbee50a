"""JSON: an array of records is read the same in pieces and at once."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from container.codecs import text_lines
from container.codecs.json import json_codec
from container.codecs.records import Columns, Floats, SparseRows
from container.errors import MalformedPayloadError

CORPUS = sorted((Path(__file__).parents[3] / "corpus/json").glob("*/*.body"))
# Where they are cut: within records as well, and within what is passed over.
RECORDS = """
[1,2] [3.5,-4] [null,6] [7,8,9] [] [[1]] ["],["] ["x"] [1e39,2] [1,100000000000000000000000000000]
{"features":[1,2]} {"features":{"values":[1,2]}} {"features":{"keys":[1],"values":[2]}} {}
{"features":[1,2],"more":[{},{}]} {"features":[1,2],"more":[[1],[2]]} {"features":[1,2],"a":"},{"}
{"data":{"features":[5,6]}} {"features":[1,2],"features":[3,4]} 7 "x" null ] } ,
""".split()  # noqa: SIM905
FRAMES = [
    *(("[", "]"), ('{"instances":[', "]}"), (' {\n"instances" : [ ', " ] } \n"), ("[", "]]")),
    *(('{"instances":[', '],"more":[[1],[2]]}'), ('{"more":[[1],[2]],"instances":[', "]}")),
    *(('{"instances":[[1,2]],"instances":[', "]}"), ('{"instances":', "}"), ("[", ""), ("", "")),
]


def outcome(body: bytes, columns: Columns) -> Floats | SparseRows | str:
    try:
        return json_codec.decode(body, columns).features
    except MalformedPayloadError as error:
        return error.message


def both(body: bytes, columns: Columns, size: int) -> tuple[object, object]:
    """Return the outcome at once, and in pieces of `size` bytes."""
    at_once = outcome(body, columns)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(text_lines, "PIECE_BYTES", size)
        return at_once, outcome(body, columns)


def assert_same(at_once: object, in_pieces: object) -> None:
    of_the_whole = ("the text is not JSON", "the object has two members")
    if isinstance(at_once, str) and any(fault in at_once for fault in of_the_whole):
        assert isinstance(in_pieces, str)  # another fault, or the same with its record
    elif isinstance(at_once, SparseRows):
        assert isinstance(in_pieces, SparseRows)
        assert in_pieces.n_columns == at_once.n_columns
        np.testing.assert_array_equal(in_pieces.offsets, at_once.offsets)
        np.testing.assert_array_equal(in_pieces.columns, at_once.columns)
        np.testing.assert_array_equal(in_pieces.values, at_once.values)
    elif isinstance(at_once, str):
        assert in_pieces == at_once
    else:
        np.testing.assert_array_equal(in_pieces, at_once, strict=True)


@pytest.mark.parametrize("size", [1, 4, 9])
def test_json_of_the_corpus_is_read_the_same_in_pieces(size: int) -> None:
    """Neither the records nor the fault of one depend on where the body is cut (C-072)."""
    for body in CORPUS:
        options = body.with_suffix(".columns")
        columns = Columns(**json.loads(options.read_text())) if options.exists() else Columns()
        try:
            assert_same(*both(body.read_bytes(), columns, size))
        except AssertionError as error:
            error.add_note(body.stem)
            raise


@given(
    records=st.lists(st.sampled_from(RECORDS[:3]), max_size=4)
    | st.lists(st.sampled_from(RECORDS), max_size=4),
    frame=st.sampled_from(FRAMES),
    comma=st.sampled_from([",", " ,\n "]),
    size=st.integers(1, 12),
    n_features=st.sampled_from([None, 2]),
)
@example(["[1e39,2]", "[1,2]", "[7,8,9]"], ("[", "]"), ",", 1, None)  # two faults: the first
def test_json_is_read_the_same_in_pieces(
    records: list[str], frame: tuple[str, str], comma: str, size: int, n_features: int | None
) -> None:
    """Holds for records of every kind, and for text that only resembles an array (C-072)."""
    body = comma.join(records).join(frame).encode()

    assert_same(*both(body, Columns(n_features=n_features), size))


def test_json_fault_in_a_later_piece_has_the_number_of_its_record() -> None:
    """Counts records from the start of the body (C-057)."""
    rows = ["[1,2]"] * text_lines.PIECE_BYTES
    body = ('{"instances":[' + ",".join([*rows, '{"features":[1,"x"]}']) + "]}").encode()

    assert outcome(body, Columns()) == (
        f"instances[{len(rows)}].features[1]: expected a number or null (a missing value), "
        "not a string; encode categories as numbers"
    )
