"""Write docs/contract.md: every rule of the platform, its status, and one test that shows it.

The rules are in docs/contract_rules.toml. A test shows a rule by naming its number in the test's
docstring. Tests in files called `test_*_deviations.py` show how multi-model-server differs.
`--tests C-044` lists every test of a rule.
"""

import argparse
import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path

from scripts import generated_page
from scripts.generated_page import ROOT, PageError

RULES_FILE = Path("docs", "contract_rules.toml")
TABLE_FILE = Path("docs", "contract.md")
COMMAND = ".venv/bin/python -m scripts.contract_table"

STRENGTHS = ("MUST", "SHOULD", "CHOICE")
MAX_TEXT_CHARACTERS = 110
MAX_ROW_CHARACTERS = 250
_DEVIATIONS = "_deviations.py::"
# Two digits or four are a slip of the pen: they match here, and are reported.
_CITATION = re.compile(r"\bC-\d{2,}\b")

_HEAD = f"""\
<!-- Made by `{COMMAND}` of {RULES_FILE.name} and the tests' docstrings: do not edit. -->

# The contract with Amazon SageMaker

Each rule comes from AWS's documentation or from the source of AWS's own containers; numbers and
wording are this project's. A **MUST** that is broken breaks the platform, or contradicts its
documentation. A **SHOULD** is what AWS's containers do and clients rely on. A **CHOICE** is left
open by the platform, and made here so that it can be tested.

One test is named for each rule; tests in `tests/blackbox` run the verbs from outside, as processes
and as containers. To list all tests of a rule: `{COMMAND} --tests C-044`.
"""

_TABLE_HEAD = """\
| Rule | | Requirement | Status | Test |
|---|---|---|---|---|"""

_DEVIATIONS_HEAD = """\
## Deviations of multi-model-server

With `BYOA_MULTI_MODEL_ENGINE=mms` many models are served by multi-model-server 1.1.11, which keeps
the rules above except these.

| Rule | | Behaviour | Test |
|---|---|---|---|"""


class ContractTableError(PageError):
    """The rules and the tests do not fit together; the message has one line a problem."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the rules file.

    Args:
        planned: The part of the work that brings the rule or its rest; empty if nothing is left.
        not_applicable: The reason why the rule binds nothing here; empty if it does.
    """

    section: str
    id: str
    strength: str
    text: str
    planned: str = ""
    not_applicable: str = ""

    def status(self, *, is_cited: bool) -> tuple[str, str]:
        """Return the status of the rule, and its plan or reason."""
        if self.not_applicable:
            return "does not apply", f": {self.not_applicable}"
        if self.planned and is_cited:
            return "partly", f": planned with {self.planned}"
        if self.planned:
            return "planned", f" with {self.planned}"
        return "implemented", ""


@dataclass(frozen=True, slots=True)
class Contract:
    """Rules in the order of their file, descriptions of plans, and deviations by rule."""

    plans: Mapping[str, str]
    rules: Sequence[Rule]
    deviations: Mapping[str, str]


def read_contract(file: Path) -> Contract:
    """Read the rules file.

    Raises:
        ContractTableError: it is not TOML, or a rule lacks a key or has one that is not known.
    """
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ContractTableError(f"{file.name}: {error}") from error
    known = {field.name for field in fields(Rule)} - {"section", "id"}
    rules = []
    for section, entries in content["rules"].items():
        for rule_id, entry in entries.items():
            missing = {"strength", "text"} - entry.keys()
            if missing or not entry.keys() <= known:
                accepted = ", ".join(sorted(known))
                raise ContractTableError(
                    f"{rule_id}: has the keys {', '.join(entry)}; needed are strength and text, "
                    f"accepted: {accepted}"
                )
            rules.append(Rule(section=section, id=rule_id, **entry))
    return Contract(content["plans"], rules, content.get("deviations", {}))


def read_citations(root: Path) -> dict[str, list[str]]:
    """Find the tests that name each rule.

    Returns:
        Ids as pytest takes them, `tests/…/test_x.py::test_y`, sorted, by the id of the rule.
    """
    citations: dict[str, list[str]] = {}
    for file in (root / "tests").rglob("test_*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        for test, docstring in _tests(tree.body, file.relative_to(root).as_posix()):
            for rule_id in set(_CITATION.findall(docstring)):
                citations.setdefault(rule_id, []).append(test)
    return {rule_id: sorted(tests) for rule_id, tests in citations.items()}


def _tests(statements: Iterable[ast.stmt], prefix: str) -> Iterator[tuple[str, str]]:
    for node in statements:
        match node:
            case ast.ClassDef(name=name, body=body) if name.startswith("Test"):
                yield from _tests(body, f"{prefix}::{name}")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if name.startswith("test_"):
                    yield f"{prefix}::{name}", ast.get_docstring(node) or ""


def problems(contract: Contract, citations: Mapping[str, Sequence[str]]) -> list[str]:
    """List the contradictions of rules and tests, each with the rule or the test."""
    found = []
    count = Counter(rule.id for rule in contract.rules)
    citations, deviations = _apart(citations)
    found += [f"{rule_id}: is there {n} times" for rule_id, n in count.items() if n > 1]
    for rule in contract.rules:
        found += [f"{rule.id}: {problem}" for problem in _rule_problems(rule, contract, citations)]
    unused = contract.plans.keys() - {rule.planned for rule in contract.rules}
    found += [f"plan {plan!r}: no rule waits for it; delete it" for plan in sorted(unused)]
    for rule_id in sorted(citations.keys() - count.keys()):
        found += [f"{test}: cites {rule_id}, which is no rule" for test in citations[rule_id]]
    for rule_id in sorted(deviations.keys() - contract.deviations.keys()):
        found += [f"{test}: {rule_id} has no deviation" for test in deviations[rule_id]]
    for rule_id in sorted(contract.deviations.keys() - (deviations.keys() & count.keys())):
        found += [f"deviation {rule_id}: no test shows it, or it is no rule"]
    return found


def _apart(
    citations: Mapping[str, Sequence[str]],
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Part the tests that show that a rule is kept from those that show a deviation."""
    kept: dict[str, list[str]] = {}
    deviations: dict[str, list[str]] = {}
    for rule_id, tests in citations.items():
        for test in tests:
            found = deviations if _DEVIATIONS in test else kept
            found.setdefault(rule_id, []).append(test)
    return kept, deviations


def _rule_problems(
    rule: Rule, contract: Contract, citations: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    if rule.strength not in STRENGTHS:
        yield f"strength {rule.strength!r} is not one of {', '.join(STRENGTHS)}"
    if not 0 < len(rule.text) <= MAX_TEXT_CHARACTERS:
        yield f"text has {len(rule.text)} characters; 1 to {MAX_TEXT_CHARACTERS} are accepted"
    if rule.planned and rule.planned not in contract.plans:
        yield f"planned {rule.planned!r} is not one of {', '.join(contract.plans)}"
    if rule.planned and rule.not_applicable:
        yield "is both planned and not_applicable"
    if rule.not_applicable and rule.id in citations:
        yield f"is not_applicable, but shown by {', '.join(citations[rule.id])}"
    if not (rule.planned or rule.not_applicable or rule.id in citations):
        yield "no test cites it, and it is neither planned nor not_applicable"


def render(contract: Contract, citations: Mapping[str, Sequence[str]]) -> str:
    """Write the page.

    Raises:
        ContractTableError: see `problems`.
    """
    if found := problems(contract, citations):
        raise ContractTableError("\n".join(found))
    citations, deviations = _apart(citations)
    parts = [_HEAD, _summary(contract, citations)]
    for section, rules in groupby(contract.rules, key=lambda rule: rule.section):
        parts += [f"## {section}", "", _TABLE_HEAD]
        parts += [_row(rule, citations) for rule in rules] + [""]
    if contract.deviations:
        parts += [_DEVIATIONS_HEAD]
        for rule in contract.rules:
            if text := contract.deviations.get(rule.id):
                parts += [_cells(rule.id, rule.strength, text, _link(rule.id, deviations))]
        parts += [""]
    if found := [row for row in parts if _is_long(row)]:
        long = "\n".join(found)
        raise ContractTableError(f"rows longer than {MAX_ROW_CHARACTERS} characters:\n{long}")
    return "\n".join(parts)


def _is_long(row: str) -> bool:
    return row.startswith("| C-") and len(row) > MAX_ROW_CHARACTERS


def _summary(contract: Contract, citations: Mapping[str, Sequence[str]]) -> str:
    count = Counter(rule.status(is_cited=rule.id in citations)[0] for rule in contract.rules)
    lines = [
        f"Of {count.total()} rules, {count['implemented']} are implemented and {count['partly']} "
        f"partly; planned: {count['planned']}; not applicable: {count['does not apply']}.",
        "",
        "| Planned with | which brings |",
        "|---|---|",
        *(f"| {name} | {brings} |" for name, brings in contract.plans.items()),
        "",
    ]
    return "\n".join(lines)


def _row(rule: Rule, citations: Mapping[str, Sequence[str]]) -> str:
    status = "".join(rule.status(is_cited=rule.id in citations))
    return _cells(rule.id, rule.strength, rule.text, status, _link(rule.id, citations))


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _link(rule_id: str, citations: Mapping[str, Sequence[str]]) -> str:
    """Link the most telling test of a rule; empty without one.

    A black-box test comes before others, then the test that shows the fewest rules, then
    one of a higher folder.
    """
    n_rules = Counter(test for tests in citations.values() for test in tests)

    def rank(test: str) -> tuple[bool, int, int, str]:
        return not test.startswith("tests/blackbox/"), n_rules[test], test.count("/"), test

    tests = sorted(citations.get(rule_id, ()), key=rank)
    if not tests:
        return ""
    file, _, name = tests[0].partition("::")
    return f"[{name}](../{file})"


def list_tests(rule_id: str, contract: Contract, citations: Mapping[str, Sequence[str]]) -> int:
    """Print a rule and the ids of all its tests, as pytest takes them; return the exit code."""
    rule = next((rule for rule in contract.rules if rule.id == rule_id), None)
    if rule is None:
        print(f"{rule_id} is no rule of {RULES_FILE}", file=sys.stderr)
        return 1
    print(f"{rule.id} {rule.strength}: {rule.text}")
    print("\n".join(citations.get(rule_id, ())))
    return 0


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Write the table, compare it (`--check`) or list a rule's tests; return the exit code."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--tests", metavar="RULE", help="print a rule and all its tests")
    given, _ = parser.parse_known_args(arguments)
    if given.tests:
        return list_tests(given.tests, read_contract(root / RULES_FILE), read_citations(root))
    return generated_page.main(
        arguments,
        about=__doc__,
        options=[parser],
        file=TABLE_FILE,
        command=COMMAND,
        render=lambda: render(read_contract(root / RULES_FILE), read_citations(root)),
        root=root,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
