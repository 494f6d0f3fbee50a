"""Check a commit message: `area: imperative summary`, and a body that says why.

git's commit-msg hook, installed by `.venv/bin/pre-commit install`. Exits with 1 and one line a
problem if the message is not accepted.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

MAX_SUBJECT_CHARACTERS = 72
_SUBJECT = re.compile(r"[a-z][\w./, -]*: \S")
_TRAILER = re.compile(r"[A-Z][\w-]+: ")
# Written by git itself, or rewritten before they are shared.
_PASSED_OVER = ("Merge ", "Revert ", "fixup! ", "squash! ", "amend! ")
_SCISSORS = "# ------------------------ >8 ------------------------"


def problems(message: str) -> Iterator[str]:
    """Yield the problems of a message as git hands it over, with its comment lines."""
    lines = [
        line.rstrip()
        for line in message.partition(_SCISSORS)[0].strip().splitlines()
        if not line.startswith("#")
    ]
    subject, rest = (lines[0], lines[1:]) if lines else ("", [])
    if subject.startswith(_PASSED_OVER):
        return
    if not _SUBJECT.match(subject):
        yield f"subject {subject!r} is not of the form 'area: imperative summary'"
    if len(subject) > MAX_SUBJECT_CHARACTERS:
        yield f"subject has {len(subject)} characters; at most {MAX_SUBJECT_CHARACTERS}"
    if subject.endswith("."):
        yield "subject ends with a full stop; leave it out"
    if rest and rest[0]:
        yield f"second line {rest[0]!r} is not empty; leave a line between subject and body"
    if not any(line and not _TRAILER.match(line) for line in rest):
        yield "body is missing; say why the change is made and what was seen"


def main(arguments: Sequence[str]) -> int:
    """Print the problems of the message in a file; return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m scripts.commit_message", description=__doc__)
    parser.add_argument("file", type=Path, help="file with the message, as git gives it to hooks")
    found = list(problems(parser.parse_args(arguments).file.read_text("utf-8")))
    for problem in found:
        print(f"commit message: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
