import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container import content_types
from container.errors import UnsupportedAcceptError

OFFERED = ("text/csv", "application/json")


def test_parse_folds_case_aliases_and_spaces() -> None:
    """C-055: the name is matched without case, parameters are kept apart from it."""
    media = content_types.parse('  Text/CSV ; Charset="UTF-8";label_size=0 ')

    assert media.name == "text/csv"
    assert media.parameters == {"charset": "UTF-8", "label_size": "0"}


@pytest.mark.parametrize(
    ("header", "name", "parameters"),
    [
        ("", "", {}),
        (" ; label_size=1", "", {"label_size": "1"}),
        ("text/csv;", "text/csv", {}),
        ("text/csv;;=;a", "text/csv", {"a": ""}),
        ("text/csv; LABEL_SIZE = 1", "text/csv", {"label_size": "1"}),
        ('text/csv;note="a;b=\\"c\\"";x=1', "text/csv", {"note": 'a;b="c"', "x": "1"}),
        ('text/csv;note="open;x=1', "text/csv", {"note": '"open;x=1'}),
        ("text/csv, text/csv", "text/csv, text/csv", {}),
        ("application/vnd.x+json", "application/vnd.x+json", {}),
    ],
)
def test_parse_takes_parameters_as_rfc_9110_has_them(
    header: str, name: str, parameters: dict[str, str]
) -> None:
    """C-055: spaces, case, quoted strings and what is left empty."""
    media = content_types.parse(header)

    assert (media.name, media.parameters) == (name, parameters)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("csv", "text/csv"),
        ("libsvm", "text/libsvm"),
        ("text/x-libsvm", "text/libsvm"),
        ("JSON", "application/json"),
        ("jsonlines", "application/jsonlines"),
        ("Parquet", "application/x-parquet"),
        ("recordio-protobuf; x=1", "application/x-recordio-protobuf"),
        ("application/x-ndjson", "application/jsonlines"),
        ("application/ndjson; charset=utf-8", "application/jsonlines"),
        ("application/jsonl", "application/jsonlines"),
        ("application/x-jsonlines", "application/jsonlines"),
        ("application/vnd.apache.parquet", "application/x-parquet"),
        ("application/csv", "text/csv"),
    ],
)
def test_parse_alias_is_the_registered_name(alias: str, name: str) -> None:
    """The short names that AWS's images take, and other common ones, mean the same format."""
    assert content_types.parse(alias).name == name


@pytest.mark.parametrize("accept", ["application/x-ndjson", "ndjson;q=0.5", "text/html, jsonl"])
def test_negotiate_takes_an_alias_for_the_format(accept: str) -> None:
    """C-056: a client may ask for JSON Lines by any of its names."""
    offered = ("text/csv", "application/jsonlines")

    assert content_types.negotiate(accept, offered, "text/csv") == "application/jsonlines"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "text/csv"),
        ("*/*", "text/csv"),
        ("application/json", "application/json"),
        ("APPLICATION/JSON; charset=utf-8", "application/json"),
        ("text/html, application/json;q=0.5", "application/json"),
        ("text/csv;q=0.4, application/json;q=0.9", "application/json"),
        ("*/*;q=0.1, application/json", "application/json"),
        ("text/*, application/json;q=0.9", "text/csv"),
        ("text/csv;q=0, */*", "application/json"),
        ("text/csv;q=nonsense, application/json;q=0.1", "application/json"),
        (" , ", "text/csv"),
        ("csv", "text/csv"),
        ("JSON;q=1", "application/json"),
        ("Text/*;Q=0.1 , Application/*;Q=0.2", "application/json"),
        ("application/json;q=0.5, application/*;q=0.9, text/csv;q=0.6", "text/csv"),
        ("*/*;q=0.5, text/csv;q=0.4", "application/json"),
        ("text/csv;q=0.1, text/csv;header=absent;q=0.9, application/json;q=0.5", "text/csv"),
        ("text/csv;q=0.000, application/json;q=0.001", "application/json"),
        ("text/csv;q=.5, application/json;q=.6", "application/json"),
        ("text/csv;q=nan, application/json;q=0.1", "application/json"),
        ("text/csv;q=-1, application/json;q=0.1", "application/json"),
        ("text/csv;q=1_0, application/json;q=0.1", "application/json"),
        ("application/json;q=5, text/csv", "application/json"),
        ("application/json, text/csv", "application/json"),
        ("text/csv, application/json", "text/csv"),
        ("text/html, application/json, text/csv", "application/json"),
        ("application/json;q=0.5, text/csv;q=0.5", "application/json"),
        ("application/json, text/csv;q=0.9", "application/json"),
        ("application/json;q=0.9, text/csv", "text/csv"),
        ("application/json, */*", "application/json"),
        ("*/*, application/json", "application/json"),
        ("application/*, text/*", "application/json"),
        ("application/*, text/csv", "text/csv"),
        ("text/*, application/json", "application/json"),
        ("text/csv;q=0.2, application/json, text/csv", "application/json"),
        ('text/html;note="application/json,text/csv", application/json;q=0.1', "application/json"),
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "text/csv"),
    ],
)
def test_negotiate_takes_the_best_of_what_is_offered(accept: str, chosen: str) -> None:
    """C-056: quality decides, then whether it is named, then where, then the default."""
    assert content_types.negotiate(accept, OFFERED, "text/csv") == chosen


@pytest.mark.parametrize(
    "accept",
    ["text/html", "image/*", "*/*;q=0", "text/csv;q=0", "*/*;q=nan", "text", "*/csv", '"text/csv"'],
)
def test_negotiate_without_a_match_lists_what_is_offered(accept: str) -> None:
    """A client learns what it may ask for."""
    with pytest.raises(UnsupportedAcceptError, match="text/csv, application/json"):
        content_types.negotiate(accept, OFFERED, "text/csv")


def test_negotiate_takes_the_default_where_qualities_are_equal() -> None:
    """C-056: what the operator set as default comes before what the algorithm prefers."""
    for accept in ("*/*", "text/html, */*", "text/*;q=0.5, application/*;q=0.5, */*"):
        offered = (*OFFERED, "text/xml")
        assert content_types.negotiate(accept, offered, "text/xml") == "text/xml"


@given(st.text(alphabet='ab/*;,="\\ q01.', max_size=40))
def test_any_header_is_parsed_and_negotiated(header: str) -> None:
    """A header is a client's text: it is matched or refused, and nothing else."""
    media = content_types.parse(header)
    try:
        chosen = content_types.negotiate(header, OFFERED, "text/csv")
    except UnsupportedAcceptError:
        chosen = "text/csv"

    assert media.name == media.name.strip().lower()
    assert chosen in OFFERED


@pytest.mark.parametrize("header", ['"' * 8000, '"\\' * 4000, "a;" * 4000, ';"' * 4000, "," * 8000])
def test_long_headers_take_no_longer_than_they_are(header: str) -> None:
    """A header of 8 KB, about the most that gets through, is parsed in milliseconds."""
    started = time.process_time()

    content_types.parse(header)
    with contextlib.suppress(UnsupportedAcceptError):
        content_types.negotiate(header, OFFERED, "text/csv")

    assert time.process_time() - started < 0.1
