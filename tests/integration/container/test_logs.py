"""Log lines of others than ourselves."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import warnings
from container import logs
logs.configure(20)
warnings.warn("two\\nlines")
"""


def test_python_warning_is_an_event() -> None:
    """Its text is a fact on one line, and the event a constant."""
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )

    line = json.loads(finished.stdout)
    assert (line["level"], line["event"]) == ("WARNING", "python_warning")
    assert "UserWarning: two lines" in line["text"]
    assert finished.stderr == ""
