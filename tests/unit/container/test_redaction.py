"""Redaction: text that a log may and may not hold."""

import json

import pytest

from container.redaction import Redactor, is_secret, mask

KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.mark.parametrize(
    "name",
    [
        *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "db_password"),
        *("API_KEY", "apikey", "client-secret", "auth", "private_key", "credentials", "DB.pwd"),
    ],
)
def test_secret_names_are_known(name: str) -> None:
    """However they are spelled."""
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["num_round", "max_tokens", "tokenizer", "keyword", "author", "PATH", "monkey"]
)
def test_other_names_are_left_alone(name: str) -> None:
    """A word in a word is not enough."""
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("cannot log in as AKIAIOSFODNN7EXAMPLE: denied", "cannot log in as ***: denied"),
        ("GET https://joe:hunter2@host/x failed", "GET https://***@host/x failed"),
        ("Authorization: Bearer eyJhbG.ciOi-J9_x== refused", "Authorization: Bearer *** refused"),
        ("https://b.s3/k?X-Amz-Signature=ab12&x=1", "https://b.s3/k?X-Amz-Signature=***&x=1"),
        (f"aws_secret_access_key = {KEY}", "aws_secret_access_key = ***"),
        ("""{"password": "hunter2", "user": "joe"}""", """{"password": "***", "user": "joe"}"""),
        ("channel 'train', file 'a.csv': line 3", "channel 'train', file 'a.csv': line 3"),
        ("s3://bucket/key at 12:30@noon", "s3://bucket/key at 12:30@noon"),
    ],
)
def test_what_looks_secret_is_replaced(text: str, kept: str) -> None:
    """Whatever it is called; the rest of the text stays."""
    assert Redactor({})(text) == kept


def test_values_of_secret_names_are_replaced_wherever_they_turn_up() -> None:
    """Also inside JSON, also the longer one of two of which one begins the other."""
    redact = Redactor({"AWS_SECRET_ACCESS_KEY": KEY, "HOME": "/root"})
    redact.learn({"db_password": 'quo"te\\', "other_secret": f"{KEY}plus", "pin_secret": "1"})

    assert redact(f"1: {KEY}plus, {KEY}, /root") == "1: ***, ***, /root"
    assert redact(json.dumps({"reason": 'it is quo"te\\'})) == '{"reason": "it is ***"}'


def test_hyperparameters_are_masked_by_name() -> None:
    """However short the value is."""
    assert mask({"pin_secret": "1", "eta": "1"}) == {"pin_secret": "***", "eta": "1"}
