from typing import ClassVar

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from container.errors import HyperparameterError
from container.hyperparameters import names, plain, validate


class Declaration(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    rounds: int = Field(ge=1)
    rate: float = Field(0.5, gt=0, le=1, validation_alias=AliasChoices("rate", "learning_rate"))


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("10", "10"),
        (10, "10"),
        (0.1, "0.1"),
        (True, "true"),
        ('"reg:squarederror"', "reg:squarederror"),
        ('"\\"reg:squarederror\\""', "reg:squarederror"),
        ("[1,2]", "[1,2]"),
        ([1, 2], "[1, 2]"),
        (" 10 ", "10"),
        ('"', '"'),
        ('"half', '"half'),
    ],
)
def test_plain_gives_every_value_as_undecorated_text(sent: object, text: str) -> None:
    """C-011, C-012: strings, JSON-encoded strings and native numbers all arrive as one text."""
    assert plain({"key": sent}) == {"key": text}


def test_plain_drops_the_control_keys_of_the_platform() -> None:
    """C-013: they never reach an algorithm."""
    given = {"rounds": "1", "sagemaker_program": '"train.py"', "sagemaker_anything": "x"}

    assert plain(given) == {"rounds": "1"}


def test_validate_converts_text_to_types() -> None:
    """C-011: every value may be a string, also under an alias."""
    checked = validate(Declaration, {"rounds": "10", "learning_rate": "0.25"})

    assert checked.rounds == 10
    assert checked.rate == 0.25


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "'rounds': is required and was not given"),
        ({"rounds": "ten"}, "'rounds': 'ten' is not accepted; input should be a valid integer"),
        ({"rounds": "0"}, "'0' is not accepted; input should be greater than or equal to 1"),
        ({"rounds": "true"}, "'true' is not accepted"),
        ({"rounds": "1", "rate": "nan"}, "'nan' is not accepted"),
        ({"rounds": "1", "rats": "1"}, "'rats': is not known; did you mean 'rate'?"),
        ({"rounds": "1", "zzz": "1"}, "known are: learning_rate, rate, rounds"),
        ({"rounds": "1", "rate": "1", "learning_rate": "1"}, "given twice"),
        ({"rounds": "9" * 5000}, "9…"),
    ],
)
def test_validate_refusal_names_key_value_and_what_is_accepted(
    given: dict[str, str], message: str
) -> None:
    """C-014: the message is enough to mend the job, however long the value was."""
    with pytest.raises(HyperparameterError) as caught:
        validate(Declaration, given)

    assert message in caught.value.message
    assert len(caught.value.message) < 400


class Foreign(Declaration):
    FOREIGN_NAMES: ClassVar = {"n_estimators": "rounds"}


@pytest.mark.parametrize("name", ["n_estimators", "N-Estimators"])
def test_name_of_another_library_is_answered_with_ours(name: str) -> None:
    """The declaration says what others call a hyperparameter; case and dashes do not matter."""
    with pytest.raises(HyperparameterError) as caught:
        validate(Foreign, {"rounds": "1", name: "1"})

    assert f"{name!r}: is not known; use 'rounds'" in caught.value.message


@pytest.mark.parametrize("name", ["notes", "later", "bounds_of_x"])
def test_name_that_is_hardly_alike_is_no_suggestion(name: str) -> None:
    """A wrong suggestion is worse than the list of names."""
    with pytest.raises(HyperparameterError, match="known are: learning_rate, rate, rounds"):
        validate(Foreign, {"rounds": "1", name: "1"})


def test_validate_reports_every_problem_at_once() -> None:
    """Nobody has to start the job twice to learn of the second mistake."""
    with pytest.raises(HyperparameterError) as caught:
        validate(Declaration, {"rounds": "0", "rate": "2"})

    assert "'rounds'" in caught.value.message
    assert "'rate'" in caught.value.message


def test_names_include_aliases() -> None:
    """Every name that may be sent is listed, aliases included."""
    assert names(Declaration) == ["learning_rate", "rate", "rounds"]
