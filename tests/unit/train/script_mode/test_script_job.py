"""The line of a script's stderr that says why it failed."""

import pytest

from train.script_mode.script_job import exception_line

TRACEBACK = ["Traceback (most recent call last):", '  File "train.py", line 1', "    fit()"]


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        ([], None),
        (["warning", "Error in fit: no data"], "Error in fit: no data"),
        (["warning", *TRACEBACK, "ValueError: a", "second line"], "ValueError: a"),
        (
            [*TRACEBACK, "KeyError: 'a'", "During handling …", *TRACEBACK, "OSError: b"],
            "OSError: b",
        ),
        ([*TRACEBACK, "ValueError: a", "sys:1: ResourceWarning: x"], "ValueError: a"),
        (TRACEBACK, "    fit()"),
    ],
)
def test_cause_is_the_line_of_the_last_exception(lines: list[str], cause: str | None) -> None:
    """Comes first in the failure file, of which the platform shows 1,024 characters (C-028)."""
    assert exception_line(lines) == cause
