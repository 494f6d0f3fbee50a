"""The decisions in `docs/adr` can be told apart."""

import re
from pathlib import Path

DECISIONS = Path(__file__).parents[2] / "docs" / "adr"


def test_each_decision_has_a_number_of_its_own() -> None:
    """They are counted from 1, and the heading says the same as the name of the file."""
    files = sorted(DECISIONS.glob("[0-9]*.md"))

    assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1))
    for file in files:
        heading = re.match(r"# (\d+)\. ", file.read_text())
        assert heading is not None, file.name
        assert int(heading[1]) == int(file.name[:4])


def test_each_decision_is_in_the_index() -> None:
    """`docs/adr/README.md` links every page under the heading of the page."""
    index = (DECISIONS / "README.md").read_text()

    for file in DECISIONS.glob("[0-9]*.md"):
        heading = file.read_text().splitlines()[0].removeprefix("# ")
        assert f"- [{heading}]({file.name})" in index, "add the line to docs/adr/README.md"
