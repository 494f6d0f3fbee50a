"""Payloads as tables: columns of numbers and text, by position or name."""

import math

import numpy as np
import pytest

from container.codecs.table import cells, decoders
from container.codecs.table.cells import MAX_CHARACTERS, Cells
from container.codecs.table.table import Table
from container.errors import MalformedPayloadError
from container.schema import Schema

CSV, JSON, LINES = "text/csv", "application/json", "application/jsonlines"
NAMES = ("city", "area", "floor")
SCHEMA = Schema.of(("text", "number", "number"), NAMES)
UNNAMED = Schema.of(("text", "number", "number"), None)


def decoded(
    body: bytes, content_type: str = CSV, schema: Schema = SCHEMA, **parameters: str
) -> Table:
    return decoders.decode(body, content_type, parameters, schema, 0).features


def as_lists(table: Table) -> list[list[object]]:
    """The columns, a missing number as None."""
    return [
        [None if isinstance(cell, float) and math.isnan(cell) else cell for cell in column]
        for column in (each.tolist() for each in table.columns)
    ]


EXPECTED = [["Berlin", None], [70.5, 1.0], [None, 2.0]]


@pytest.mark.parametrize(
    ("content_type", "body", "parameters"),
    [
        (CSV, b"Berlin,70.5,\n,1,2\n", {}),
        (CSV, b"Berlin,70.5,na\r\n,TRUE,2", {}),
        (CSV, b"\xef\xbb\xbfBerlin;70.5;\n;1; 2 \n", {}),
        (CSV, b"floor,city,area\n,Berlin,70.5\n2,,1\n", {"header": "present"}),
        (JSON, b'[["Berlin", 70.5, null], [null, true, 2]]', {}),
        (JSON, b'{"instances": [["Berlin", 70.5, NaN], [null, 1, 2]]}', {}),
        (JSON, b'{"instances": [{"features": ["Berlin", 70.5, null]}, [null, 1, 2]]}', {}),
        (
            JSON,
            b'[{"city": "Berlin", "area": 70.5, "floor": null},'
            b' {"area": 1, "floor": 2, "city": null}]',
            {},
        ),
        (JSON, b'[{"data": {"features": ["Berlin", 70.5, null]}}, {"data": [null, 1, 2]}]', {}),
        (LINES, b'["Berlin", 70.5, null]\n[null, 1, 2]\n', {}),
        (
            LINES,
            b'{"floor":null,"area":70.5,"city":"Berlin"}\n{"floor":2,"area":1,"city":null}',
            {},
        ),
    ],
)
def test_records_of_every_form_are_the_same_table(
    content_type: str, body: bytes, parameters: dict[str, str]
) -> None:
    """Columns by position, or by name in any order (C-098)."""
    table = decoded(body, content_type, **parameters)

    assert as_lists(table) == EXPECTED
    assert table.names == NAMES
    assert table.kinds == ("text", "number", "number")


def test_one_json_record_without_an_array_around_it() -> None:
    """A row or an object."""
    assert decoded(b'["Berlin", 1, 2]', JSON).shape == (1, 3)
    assert decoded(b'{"city": "a", "area": 1, "floor": 2}', JSON).shape == (1, 3)


def test_line_ends_after_the_last_record_are_no_records() -> None:
    """Editors write them."""
    assert decoded(b'["a", 1, 2]\n\n', LINES).shape == (1, 3)
    assert decoded(b"a,1,2\r\n\n", CSV).shape == (1, 3)


@pytest.mark.parametrize("cell", ["NA", "null", "true", "7", " x ", 'a "b", c', "two\nlines", "é"])
def test_text_is_kept_as_it_is(cell: str) -> None:
    """Words that mean a missing number are text in a column of text."""
    quoted = '"' + cell.replace('"', '""') + '"'

    assert decoded(f"{quoted},1,2\n".encode()).columns[0].tolist() == [cell]


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        (CSV, b"a,1,2\nb,x,2\n", "line 2: column 2 ('area'): expected a number, or nothing"),
        (CSV, b'"a\nb",1,2\nb,x,2\n', "line 3: column 2"),
        (CSV, b"a,1,2\nb,1\n", "line 2: the record has 2 cells where the first has 3"),
        (CSV, b"a,1\n", "the records have 2 columns where 3 are expected"),
        (CSV, b"a,1,2\n\nb,1,2\n", "line 2: the line is blank"),
        (CSV, b"a,1e400,2\n", "line 1: column 2 ('area'): the number is infinite"),
        (CSV, b'"a,1,2\n', "line 1: the text is not CSV: unexpected end of data"),
        (CSV, b"a,1,2\n\xff,1,2\n", "line 2: the text is not UTF-8"),
        (CSV, b"a\0b,1,2\n", "NUL"),
        (CSV, b"", "there are no records"),
        (JSON, b"[]", "expected an array of values"),
        (JSON, b'{"instances": []}', "there are no records"),
        (JSON, b'[["a", "1", 2]]', "record 1: column 2 ('area'): expected a number, or nothing"),
        (JSON, b'[["a", 1, 2], [7, 1, 2]]', "record 2: column 1 ('city'): expected text, or null"),
        (JSON, b'[["a", [1], 2]]', "record 1: column 2 ('area'): expected a number"),
        (JSON, b'[["a", 1, 2], {"city": "a"}]', "record 2: names in some records and none in"),
        (JSON, b'[{"city":"a","area":1}]', "missing: 'floor'"),
        (JSON, b'[{"city":"a","area":1,"flor":1}]', "missing: 'floor'; unknown: 'flor'"),
        (
            JSON,
            b'[{"city":"a","area":1,"floor":1}, {"city":"a","area":1}]',
            "record 2: the columns are not those of the first record: missing: 'floor'",
        ),
        (JSON, b'[{"city":"a","city":"b"}]', "two members of the same name"),
        (JSON, b'[["\\ud800", 1, 2]]', "record 1: column 1 ('city'): the text has half of a"),
        (JSON, b'[["a\\u0000", 1, 2]]', "record 1: column 1 ('city'): the text has a NUL"),
        (JSON, b"7", "expected an array or an object"),
        (LINES, b'["a", 1, 2]\n["a", 1\n', "line 2, column 8: the text is not JSON"),
        (LINES, b'["a", 1, 2]\n["a", "b", 2]\n', "line 2: column 2 ('area')"),
    ],
)
def test_fault_is_refused_with_its_place(content_type: str, body: bytes, message: str) -> None:
    """Line or record, and the column by number and name (C-057)."""
    with pytest.raises(MalformedPayloadError) as caught:
        decoded(body, content_type)

    assert message in caught.value.message


def test_cell_of_any_size_is_refused_or_read() -> None:
    """A cell of 10 MB costs its request, not the server."""
    for content_type, body in (
        (CSV, b"a" * 10_000_000 + b",1,2\n"),
        (JSON, b'[["' + b"a" * 10_000_000 + b'", 1, 2]]'),
    ):
        with pytest.raises(MalformedPayloadError, match=r"field larger|10000000 characters"):
            decoded(body, content_type)
    longest = "a" * MAX_CHARACTERS
    assert decoded(f"{longest},1,2".encode()).columns[0].tolist() == [longest]


@pytest.mark.parametrize("content_type", [CSV, JSON, LINES])
def test_request_of_too_many_cells_is_refused_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch, content_type: str
) -> None:
    """Cells are Python objects: a body of 100 MB would take gigabytes."""
    monkeypatch.setattr(cells, "MAX_CELLS", 5)

    with pytest.raises(MalformedPayloadError, match="more than 5 cells; send fewer records"):
        decoded(b'["a",1,2]\n' * 3, content_type)


def test_columns_without_names_are_matched_by_position() -> None:
    """On either side."""
    named = b'{"a": "x", "b": 1, "c": 2}'

    assert as_lists(decoded(named, JSON, UNNAMED)) == [["x"], [1.0], [2.0]]
    with pytest.raises(MalformedPayloadError, match=r"column 2: expected a number"):
        decoded(b"x,y,2", CSV, UNNAMED)


@pytest.mark.parametrize("value", ["yes", ""])
def test_unknown_header_parameter_is_refused(value: str) -> None:
    """RFC 4180 knows present and absent."""
    with pytest.raises(MalformedPayloadError, match="header must be present or absent"):
        decoded(b"a,1,2", CSV, header=value)


@pytest.mark.parametrize(
    ("columns", "is_text", "expected"),
    [
        ([["1", "na", "", "true", "-2.5e3"]], True, ("number",)),
        ([["1", "x"]], True, ("text",)),
        ([["", "", "NA"]], True, ("number",)),
        ([[1, None, 2.5, True]], False, ("number",)),
        ([["1", None]], False, ("text",)),
        ([[None, None]], False, ("number",)),
    ],
)
def test_column_is_text_if_a_cell_is_no_number(
    columns: list[list[object]], is_text: bool, expected: tuple[str, ...]
) -> None:
    """Missing cells do not count, nor do words for true and false."""
    assert cells.kinds(Cells(columns, is_text=is_text)) == expected


def test_text_and_numbers_in_one_column_are_refused() -> None:
    """JSON tells them apart, and one of the two is a mistake."""
    with pytest.raises(MalformedPayloadError, match="record 3: column 1: text and numbers in one"):
        cells.kinds(Cells([[1, None, "a"]]))


def test_matrix_is_numbers_only() -> None:
    """Float32 with NaN for missing cells."""
    table = decoded(b"a,1,2\nb,,1e39\n")

    with pytest.raises(MalformedPayloadError, match=r"column 1 \('city'\) is text"):
        table.matrix()
    numbers = Table(table.columns[1:], NAMES[1:])
    with pytest.raises(MalformedPayloadError, match=r"record 2: column 2 \('floor'\): the number"):
        numbers.matrix()
    matrix = numbers.rows(0, 1).matrix()
    assert matrix.dtype == np.float32
    assert matrix.tolist() == [[1.0, 2.0]]


def test_schema_has_all_names_or_none() -> None:
    """Or a column could be matched twice."""
    for names in (("a", None), ("a", "a")):
        with pytest.raises(ValueError, match="give every column a name of its own"):
            Schema.of(("text", "number"), names)  # type: ignore[arg-type]
