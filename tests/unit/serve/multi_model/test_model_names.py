import pytest

from container.errors import InvalidRequestError
from serve.multi_model import model_names


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"/models/m/invoke", "m"),
        (b"/models/a%2Fb/invoke", "a/b"),
        (b"/models/%2e%2e/invoke", ".."),
        (b"/models/100%25/invoke", "100%"),
        (b"/models/a+b/invoke", "a+b"),
        (b"/models/%C3%BC/invoke", "ü"),
        (b"/models/invoke/invoke", "invoke"),
        (b"/models//invoke", None),
        (b"/models/a/b/invoke", None),
        (b"/models/%ff/invoke", None),
        (b"/models/\xff/invoke", None),
        (b"/models/m", None),
        (b"/models/invoke", None),
        (b"/invocations", None),
        (b"/Models/m/invoke", None),
    ],
)
def test_name_is_read_from_the_path_as_it_was_sent(path: bytes, name: str | None) -> None:
    """Decodes an encoded slash as part of the name; a plain slash ends it (C-087)."""
    assert model_names.in_invoke_path(path) == name


def test_name_in_the_path_of_a_model() -> None:
    """Reads the name in `/models/NAME` (C-087)."""
    assert model_names.in_path(b"/models/x%2Finvoke") == "x/invoke"
    assert model_names.in_path(b"/models/x/invoke") is None
    assert model_names.in_path(b"/models/") is None
    assert model_names.in_path(b"/other") is None


@pytest.mark.parametrize("name", ["m", "a/b", "../x", "x" * 1024, "ü" * 512, " ", "-m", "模型"])
def test_name_is_opaque(name: str) -> None:
    """Accepts any text as an opaque name (C-087)."""
    assert model_names.check(name) == name


@pytest.mark.parametrize(
    "name", [None, 1, "", ".", "..", "a\0", "a\n", "\x7f", "x" * 1025, "ü" * 513, "\ud800"]
)
def test_what_no_path_can_hold_is_no_name(name: object) -> None:
    """Refuses a name that cannot be in a path (C-087)."""
    with pytest.raises(InvalidRequestError, match="model_name"):
        model_names.check(name)


@pytest.mark.parametrize("name", ["", "m", "ü/ 模型", "x" * 1024])
def test_page_token_is_the_last_name(name: str) -> None:
    """Encodes the last name in URL-safe characters (C-083)."""
    token = model_names.page_token(name)

    assert model_names.after(token) == name
    assert token.replace("-", "").replace("_", "").isalnum() or not token


@pytest.mark.parametrize("token", ["*", "a", "////", "/w==", "é", "gA"])
def test_strange_page_token_is_refused(token: str) -> None:
    """Refuses a token that is not an encoded name (C-083)."""
    with pytest.raises(InvalidRequestError, match="next_page_token"):
        model_names.after(token)
