"""Write docs/settings.md: every environment variable that steers the container.

All that the page says is in `container/settings.py`, where each variable is declared once.
"""

import sys
from collections.abc import Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from container.settings import Settings
from scripts import generated_page
from scripts.generated_page import ROOT

PAGE_FILE = Path("docs", "settings.md")
COMMAND = ".venv/bin/python -m scripts.settings_table"

_HEAD = f"""\
<!-- Made by `{COMMAND}` of container/settings.py: do not edit. -->

# Settings

Environment variables, read once when the program starts. One that is unset or empty has its
default; a value that is not accepted ends the program at once, with the variable, the value and
what is accepted in the message. Variables that are not listed here are passed over.

Names that begin with `SAGEMAKER_` are those of the platform and of AWS's own containers, and keep
their meaning. Names that begin with `BYOA_` are this container's.

| Variable | Default | Accepted | Meaning |
|---|---|---|---|
"""


def render() -> str:
    """Write the page."""
    return _HEAD + "\n".join(map(_row, fields(Settings))) + "\n"


def _row(setting: Field[Any]) -> str:
    about = setting.metadata
    cells = (
        f"`{about['variable']}`",
        _default(setting.default, about["parser"].accepted),
        about["parser"].accepted,
        about["meaning"],
    )
    return f"| {' | '.join(cells)} |"


def _default(value: object, accepted: str) -> str:
    """The default as an operator would write it."""
    if value is None or value == ():
        return "-"
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, int) and accepted.endswith("in MiB"):
        text = str(value // 2**20)
    elif isinstance(value, tuple):
        text = ",".join(map(str, value))
    else:
        text = str(value)
    return f"`{text}`"


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Write the page, or with `--check` compare it, and return the exit code."""
    return generated_page.main(
        arguments, about=__doc__, file=PAGE_FILE, command=COMMAND, render=render, root=root
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
