"""Check the prose of docstrings, comments and pages: citations that resolve, and plain English.

Prints one line a finding, `file:line: problem`. A finding is

- a citation that does not resolve inside the repository: a rule number that is not in
  docs/contract_rules.toml, a section of another document, a path, a module, a link, an anchor,
  an ADR;
- a docstring that begins with a relative or question word, or consists of rule numbers only;
- a phrase of `PHRASES`, for which the field has a standard term.

Code, and the fenced blocks of pages, are not read.
"""

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

# Phrases that a maintainer of gunicorn or Flask would not write, and the words to use instead.
PHRASES = {
    r"who(?:m|se)?ever": "name the actor: the client, the caller, the operator",
    r"stand-?ins?": "placeholder, or fake in a test",
    r"(?:give|gives|gave|given|giving) (?:it |them |memory )?back": "release or return",
    r"(?:is|are|was|were|be|been|being) tried(?! again)": "validated, probed or attempted",
    r"(?:bury|buries|buried)": "reap",
    r"(?:waiting|bounded) lines?": "queue",
    r"what (?:it|he|she|one|they) (?:gets?|is given|are given|is asked|knows?)": "a noun",
}
_PHRASES = [
    (re.compile(r"\b(?:" + phrase.replace(" ", r"\s+") + r")\b", re.IGNORECASE), instead)
    for phrase, instead in PHRASES.items()
]
_OPENERS = re.compile(r"(?:What|Whether|Who|Whoever|Whose|How|Where|When|Why)\b")
_RULE = re.compile(r"\bC-\d{2,}\b")
_RULES_ONLY = re.compile(r"(?:C-\d+|and|[\s,.;:&/…-])+")
_FOREIGN = re.compile(
    r"\b(?:CONTRACT|PITFALLS|STYLE|HOUSE|DESIGN)(?:\.md)? (?:§ ?)?(?:[A-Z]\d*-)?\d[\d.]*"
)
_ADR = re.compile(r"\bADR[ -]?(\d+)\b")
_FOLDERS = "container|serve|train|docs|scripts|benchmarks|local_test|tests|requirements"
_PATH = re.compile(
    rf"(?<![\w./-])(?:{_FOLDERS})/[\w./*-]*\.(?:py|md|toml|sh|txt|csv|in)\b(#[\w-]+)?"
)
_MODULE = re.compile(rf"(?<![\w./-])(?:{_FOLDERS})(?!\.(?:py|txt|md)\b)(?:\.[A-Za-z_]\w*)+\b")
_FILE = re.compile(r"(?<![\w./*-])[a-z]\w*\.py\b")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_TARGET = re.compile(r"\]\([^)\s]+\)")
_FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)
# Files of users, of the standard library and of other projects that the prose speaks of.
_OTHER_FILES = frozenset(
    f"{stem}.py"
    for stem in (
        *("container", "estimator", "helpers", "inference", "json", "nearest_centroid", "numpy"),
        *("params", "serve", "serving", "setup", "train"),
    )
)


class Prose(NamedTuple):
    """A docstring, a comment or a page, and the line where it begins."""

    line: int
    text: str
    is_docstring: bool = False


@dataclass(frozen=True)
class Repository:
    """The files and the citable names of a checkout."""

    root: Path
    files: frozenset[str] = field(repr=False)

    @classmethod
    def at(cls, root: Path) -> "Repository":
        """List the files that git knows or would add."""
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
        return cls(root, frozenset(f for f in listed.stdout.splitlines() if (root / f).is_file()))

    @cached_property
    def rules(self) -> frozenset[str]:
        """Rule numbers, `C-001` and on."""
        content = tomllib.loads((self.root / "docs/contract_rules.toml").read_text("utf-8"))
        return frozenset(rule for section in content["rules"].values() for rule in section)

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of files without their folders."""
        return frozenset(Path(file).name for file in self.files)

    @cached_property
    def adrs(self) -> frozenset[int]:
        """Numbers of the decisions in docs/adr."""
        numbers = (re.match(r"docs/adr/(\d+)-", file) for file in self.files)
        return frozenset(int(match[1]) for match in numbers if match)

    def has_path(self, path: str) -> bool:
        """Return True if a file, a folder or a glob pattern exists."""
        return bool(path.strip("/")) and any(self.root.glob(path.rstrip("/")))

    def has_module(self, dotted: str) -> bool:
        """Return True if the longest prefix that is a module defines the rest of the name."""
        parts = dotted.split(".")
        for n_parts in range(len(parts), 1, -1):
            stem = "/".join(parts[:n_parts])
            for file in (f"{stem}.py", f"{stem}/__init__.py"):
                if file in self.files:
                    rest = parts[n_parts : n_parts + 1]
                    text = (self.root / file).read_text("utf-8")
                    return not rest or _defines(text, rest[0])
            if n_parts == len(parts) and (self.root / stem).is_dir():
                return True
        return False

    def has_anchor(self, page: str, anchor: str) -> bool:
        """Return True if a page has a heading that GitHub gives this anchor."""
        text = _FENCE.sub("", (self.root / page).read_text("utf-8"))
        return anchor in {_slug(match[1]) for match in _HEADING.finditer(text)}


def _defines(module_text: str, name: str) -> bool:
    pattern = rf"^(?:(?:class|def|async def) )?{name}\b"
    return re.search(pattern, module_text, re.MULTILINE) is not None


def _slug(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def check_file(repository: Repository, file: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the problem of every finding in a file."""
    text = (repository.root / file).read_text("utf-8")
    for prose in read_prose(file, text):
        for offset, problem in _problems(repository, file, prose):
            yield prose.line + prose.text.count("\n", 0, offset), problem


def read_prose(file: str, text: str) -> Iterator[Prose]:
    """Split a file into its docstrings and comments; a page is one piece.

    Args:
        file: Decides how the text is read: `.py`, `.md`, anything else for its `#` comments.
        text: Content of the file.
    """
    if file.endswith(".md"):
        # Keeps the number of lines, so that positions stay true.
        yield Prose(1, _FENCE.sub(lambda block: "\n" * block[0].count("\n"), text))
    elif file.endswith(".py"):
        yield from _docstrings(ast.parse(text))
        yield from _comments(text)
    else:
        for number, line in enumerate(text.splitlines(), 1):
            if line.lstrip().startswith("#") and not line.startswith("#!"):
                yield Prose(number, line.lstrip("# "))


def _docstrings(tree: ast.Module) -> Iterator[Prose]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield Prose(node.body[0].lineno, text, is_docstring=True)


def _comments(text: str) -> Iterator[Prose]:
    """Join comments on consecutive lines, so that phrases across a line break are found."""
    begin, lines = 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        number = token.start[0]
        if lines and number != begin + len(lines):
            yield Prose(begin, "\n".join(lines))
            lines = []
        begin = begin if lines else number
        lines.append(token.string.lstrip("# "))
    if lines:
        yield Prose(begin, "\n".join(lines))


def _problems(repository: Repository, file: str, prose: Prose) -> Iterator[tuple[int, str]]:
    """Yield the offset and the problem of every finding in a piece of prose."""
    text = prose.text
    if prose.is_docstring and (match := _OPENERS.match(text)):
        yield 0, f"docstring begins with {match[0]!r}; begin with a verb or a noun"
    if prose.is_docstring and _RULES_ONLY.fullmatch(text):
        yield 0, f"docstring is only {text.strip()!r}; state the behaviour, the number after it"
    for pattern, instead in _PHRASES:
        for match in pattern.finditer(text):
            phrase = " ".join(match[0].split())
            yield match.start(), f"{phrase!r}: say instead: {instead}"
    if file.endswith(".md"):
        yield from _dead_links(repository, file, text)
        text = _TARGET.sub(lambda target: " " * len(target[0]), text)  # relative to the page
    yield from _dangling(repository, text)


def _dangling(repository: Repository, text: str) -> Iterator[tuple[int, str]]:
    for match in _FOREIGN.finditer(text):
        yield (
            match.start(),
            f"{match[0]!r} is not in this repository; cite a rule or state the fact",
        )
    for match in _RULE.finditer(text):
        if match[0] not in repository.rules:
            yield match.start(), f"{match[0]} is no rule of docs/contract_rules.toml"
    for match in _ADR.finditer(text):
        if int(match[1]) not in repository.adrs:
            yield match.start(), f"{match[0]} is not in docs/adr"
    for match in _PATH.finditer(text):
        path, _, anchor = match[0].partition("#")
        if not repository.has_path(path):
            yield match.start(), f"{path} does not exist"
        elif anchor and path.endswith(".md") and not repository.has_anchor(path, anchor):
            yield match.start(), f"{path} has no heading #{anchor}"
    for match in _FILE.finditer(text):
        if match[0] not in repository.names | _OTHER_FILES:
            yield match.start(), f"no file is named {match[0]}"
    for match in _MODULE.finditer(text):
        if not repository.has_module(match[0]):
            yield match.start(), f"{match[0]} is no module, and no name in one"


def _dead_links(repository: Repository, file: str, text: str) -> Iterator[tuple[int, str]]:
    for match in _LINK.finditer(text):
        path, _, anchor = match[1].partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (repository.root / file).parent / path if path else repository.root / file
        if not target.resolve().is_relative_to(repository.root) or not target.exists():
            yield match.start(), f"link to {match[1]}: {path} does not exist"
        elif anchor and target.suffix == ".md":
            page = target.resolve().relative_to(repository.root).as_posix()
            if not repository.has_anchor(page, anchor):
                yield match.start(), f"link to {match[1]}: no heading #{anchor}"


def is_checked(file: str) -> bool:
    """Return True for files with prose; the data of tests and locked requirements have none."""
    if file.startswith("tests/corpus/") and not file.endswith(".py"):
        return False
    return file.endswith((".py", ".md", ".sh", ".toml")) or Path(file).name in (
        "Dockerfile",
        "Makefile",
    )


def _is_below(file: str, paths: Sequence[str]) -> bool:
    return any(file == path or file.startswith(f"{path}/") for path in paths)


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Print the findings in some files or folders, or in all; return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m scripts.check_words", description=__doc__)
    parser.add_argument("paths", nargs="*", help="files and folders, from the root; default: all")
    parser.add_argument("--except", nargs="+", default=[], dest="left_out", help="leave these out")
    given = parser.parse_args(arguments)
    repository = Repository.at(root)
    n_found = 0
    for file in sorted(filter(is_checked, repository.files)):
        if (given.paths and not _is_below(file, given.paths)) or _is_below(file, given.left_out):
            continue
        for line, problem in check_file(repository, file):
            n_found += 1
            print(f"{file}:{line}: {problem}")
    if n_found:
        print(f"check_words: {n_found} findings", file=sys.stderr)
    return 1 if n_found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
