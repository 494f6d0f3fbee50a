"""Log lines of others than ourselves."""

import json
import logging
import warnings

import pytest

from container import logs


def test_python_warning_is_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    """Its text is a fact on one line, and the event a constant."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)  # of an earlier test, undone by pytest behind its back
        logs.configure(logging.INFO)
        try:
            warnings.warn("two\nlines", UserWarning, stacklevel=1)
        finally:
            logging.captureWarnings(False)
            root.handlers[:] = handlers
            root.setLevel(level)

    line = json.loads(capsys.readouterr().out)
    assert (line["level"], line["event"]) == ("WARNING", "python_warning")
    assert "UserWarning: two lines" in line["text"]
