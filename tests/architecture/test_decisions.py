"""The decisions in `docs/adr` can be told apart."""

import re
from pathlib import Path

DECISIONS = Path(__file__).parents[2] / "docs" / "adr"


def test_each_decision_has_a_number_of_its_own() -> None:
    """They are counted from 1, and the heading says the same as the name of the file."""
    files = sorted(DECISIONS.glob("*.md"))

    assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1))
    for file in files:
        heading = re.match(r"# (\d+)\. ", file.read_text())
        assert heading is not None, file.name
        assert int(heading[1]) == int(file.name[:4])
