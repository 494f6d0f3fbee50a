import pytest

from container import content_types
from container.errors import UnsupportedAcceptError

OFFERED = ("text/csv", "application/json")


def test_parse_folds_case_aliases_and_spaces() -> None:
    """C-055: the name is matched without case, parameters are kept apart from it."""
    media = content_types.parse('  Text/CSV ; Charset="UTF-8";label_size=0 ')

    assert media.name == "text/csv"
    assert media.parameters == {"charset": "UTF-8", "label_size": "0"}


@pytest.mark.parametrize(
    ("alias", "name"),
    [("csv", "text/csv"), ("text/x-libsvm", "text/libsvm"), ("JSON", "application/json")],
)
def test_parse_alias_is_the_registered_name(alias: str, name: str) -> None:
    """The short names that AWS's images take mean the same format."""
    assert content_types.parse(alias).name == name


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
    ],
)
def test_negotiate_takes_the_best_of_what_is_offered(accept: str, chosen: str) -> None:
    """C-056: quality decides, then specificity, then the default."""
    assert content_types.negotiate(accept, OFFERED, "text/csv") == chosen


@pytest.mark.parametrize("accept", ["text/html", "image/*", "*/*;q=0", "text/csv;q=0"])
def test_negotiate_without_a_match_lists_what_is_offered(accept: str) -> None:
    """A client learns what it may ask for."""
    with pytest.raises(UnsupportedAcceptError, match="text/csv, application/json"):
        content_types.negotiate(accept, OFFERED, "text/csv")
