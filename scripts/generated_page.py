"""Generation of pages of `docs/`, and the check that a page matches its source."""

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class PageError(Exception):
    """The source of the page is wrong; the message has one line a problem."""


def main(
    arguments: Sequence[str],
    *,
    about: str | None,
    options: Sequence[argparse.ArgumentParser] = (),
    file: Path,
    command: str,
    render: Callable[[], str],
    root: Path = ROOT,
) -> int:
    """Write a page, or with `--check` compare it, and return the exit code.

    Args:
        about: Text of `--help`.
        options: Parsers of further options, which the caller has handled.
        file: The page, relative to `root`.
        command: Command that regenerates the page, shown when it is stale.
        render: Returns its text, or raises `PageError`.
    """
    parser = argparse.ArgumentParser(prog=command, description=about, parents=options)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; print a diff and fail if it is stale"
    )
    is_check = parser.parse_args(arguments).check
    try:
        expected = render()
    except PageError as error:
        print(error, file=sys.stderr)
        return 1
    page = root / file
    if not is_check:
        page.write_text(expected, "utf-8")
        return 0
    current = page.read_text("utf-8") if page.exists() else ""
    if current == expected:
        return 0
    difference = difflib.unified_diff(
        current.splitlines(), expected.splitlines(), str(file), "as it should be", lineterm=""
    )
    print("\n".join(difference))
    print(f"{file} is not current; run: {command}", file=sys.stderr)
    return 1
