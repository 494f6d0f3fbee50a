"""`docs/contract.md` matches the rules and the tests, and its generator detects mistakes."""

from pathlib import Path

import pytest

from scripts import contract_table
from scripts.generated_page import ROOT

RULES = """
[plans]
"later" = "the rest"

[rules."First"]
C-001 = { strength = "MUST", text = "shown" }
C-002 = { strength = "SHOULD", text = "shown a little", planned = "later" }

[rules."Second"]
C-003 = { strength = "CHOICE", text = "a | b", planned = "later" }
C-004 = { strength = "MUST", text = "odd", not_applicable = "not ours" }

[deviations]
C-001 = "hidden"
"""
DEVIATIONS = '''
def test_three():
    """C-001."""
'''
TESTS = '''
"""C-003: a module shows nothing."""

def test_one():
    """C-001, C-002: also C-1."""
    def test_inner():
        """C-004."""

class TestGroup:
    """C-003."""

    async def test_two(self):
        """C-001."""

def helper():
    """C-003."""
    return """C-003"""
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with four rules, one of each status."""
    for directory in ("docs", "tests/unit"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / contract_table.RULES_FILE).write_text(RULES)
    (tmp_path / "tests/unit/test_it.py").write_text(TESTS)
    (tmp_path / "tests/unit/test_it_deviations.py").write_text(DEVIATIONS)
    (tmp_path / "tests/unit/helpers.py").write_text("def test_x():\n    '''C-003.'''\n")
    return tmp_path


def test_table_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    """A change of a rule or a docstring needs `make contract`."""
    code = contract_table.main(["--check"])

    shown = capsys.readouterr()
    assert code == 0, shown.err + shown.out


def test_every_rule_is_there_once_and_in_order() -> None:
    """One hundred rules, numbered from 1; each is shown, planned or does not apply."""
    contract = contract_table.read_contract(ROOT / contract_table.RULES_FILE)

    found = [rule.id for rule in contract.rules]
    assert found == sorted(set(found))
    assert found[:100] == [f"C-{n:03}" for n in range(1, 101)]
    assert contract_table.problems(contract, contract_table.read_citations(ROOT)) == []


def test_row_has_status_and_one_test(project: Path) -> None:
    """Only a collected test's own docstring counts; the most specific test is linked."""
    assert contract_table.main([], project) == 0

    table = (project / "docs/contract.md").read_text().splitlines()
    assert [line for line in table if line.startswith("| C-")] == [
        "| C-001 | MUST | shown | implemented | [TestGroup::test_two](../tests/unit/test_it.py) |",
        "| C-002 | SHOULD | shown a little | partly: planned with later"
        " | [test_one](../tests/unit/test_it.py) |",
        "| C-003 | CHOICE | a \\| b | planned with later |  |",
        "| C-004 | MUST | odd | does not apply: not ours |  |",
        "| C-001 | MUST | hidden | [test_three](../tests/unit/test_it_deviations.py) |",
    ]
    headings = [line for line in table if line.startswith("## ")]
    assert headings == ["## First", "## Second", "## Deviations of multi-model-server"]
    assert "Of 4 rules, 1 are implemented and 1 partly; planned: 1; not applicable: 1." in table


def test_black_box_test_is_linked_before_others(project: Path) -> None:
    """A reader sees the behaviour from outside first."""
    (project / "tests/blackbox").mkdir()
    (project / "tests/blackbox/test_out.py").write_text(TESTS.replace("C-001.", "C-002."))
    (project / "tests/unit/test_more.py").write_text('def test_x():\n    "C-002."\n')
    contract_table.main([], project)

    table = (project / "docs/contract.md").read_text()
    assert "later | [TestGroup::test_two](../tests/blackbox/test_out.py) |" in table


def test_all_tests_of_a_rule_are_listed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--tests C-001` prints the rule and test ids that pytest takes, deviations included."""
    assert contract_table.main(["--tests", "C-001"], project) == 0
    assert capsys.readouterr().out.splitlines() == [
        "C-001 MUST: shown",
        "tests/unit/test_it.py::TestGroup::test_two",
        "tests/unit/test_it.py::test_one",
        "tests/unit/test_it_deviations.py::test_three",
    ]
    assert contract_table.main(["--tests", "C-999"], project) == 1
    assert "C-999 is no rule" in capsys.readouterr().err


def test_check_shows_what_is_stale_and_writes_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A diff from what is there to what should be, until the table is written."""
    table = project / "docs/contract.md"
    assert contract_table.main(["--check"], project) == 1
    assert not table.exists()

    contract_table.main([], project)
    assert contract_table.main(["--check"], project) == 0

    stale = table.read_text().replace("implemented", "invented")
    table.write_text(stale)
    capsys.readouterr()
    assert contract_table.main(["--check"], project) == 1
    shown = capsys.readouterr()
    assert "-| C-001 | MUST | shown | invented |" in shown.out
    assert "+| C-001 | MUST | shown | implemented |" in shown.out
    assert f"run: {contract_table.COMMAND}" in shown.err
    assert table.read_text() == stale


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("tests/unit/test_it.py", "C-001", "C-002", "C-001: no test cites it"),
        ("tests/unit/test_it_deviations.py", "C-001", "none", "deviation C-001: no test shows it"),
        ("tests/unit/test_it_deviations.py", "C-001", "C-003", "::test_three: C-003 has no devi"),
        ("docs/contract_rules.toml", 'C-001 = "', 'C-005 = "', "deviation C-005: no test shows it"),
        ("tests/unit/test_it.py", "C-002", "C-005", "test_it.py::test_one: cites C-005"),
        ("tests/unit/test_it.py", "C-002", "C-02", "test_it.py::test_one: cites C-02,"),
        ("tests/unit/test_it.py", "C-002", "C-0022", "test_it.py::test_one: cites C-0022,"),
        ("tests/unit/test_it.py", "C-002", "C-004", "C-004: is not_applicable, but shown by tests"),
        ("docs/contract_rules.toml", 'b", planned = "later"', 'b"', "C-003: no test cites it"),
        ("docs/contract_rules.toml", 'b", planned = "later"', 'b", planned = ""', "C-003: no test"),
        ("docs/contract_rules.toml", '"later" }', '"latre" }', "C-002: planned 'latre' is not"),
        ("docs/contract_rules.toml", '"later" =', '"x" = ""\n"later" =', "plan 'x': no rule waits"),
        ("docs/contract_rules.toml", "C-003 =", "C-001 =", "C-001: is there 2 times"),
        ("docs/contract_rules.toml", "C-002 =", "C-001 =", "contract_rules.toml: Cannot overwrite"),
        ("docs/contract_rules.toml", "MUST", "WILL", "C-001: strength 'WILL' is not one of MUST,"),
        ("docs/contract_rules.toml", '"shown"', f'"{"x" * 111}"', "C-001: text has 111 characters"),
        (
            "docs/contract_rules.toml",
            '"hidden"',
            f'"{"x" * 250}"',
            "rows longer than 250 characters",
        ),
        ("docs/contract_rules.toml", 'text = "odd", ', "", "C-004: has the keys strength, not_app"),
        ("docs/contract_rules.toml", "not_applicable", "nope", "C-004: has the keys"),
        (
            "docs/contract_rules.toml",
            "not_applicable",
            'planned = "later", not_applicable',
            "C-004: is both planned and not_applicable",
        ),
    ],
)
def test_mistake_is_named_and_no_table_is_written(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    old: str,
    new: str,
    problem: str,
) -> None:
    """A rule without a test, a test without a rule, and what else would make the table untrue."""
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new))

    assert contract_table.main([], project) == 1

    assert problem in capsys.readouterr().err
    assert not (project / "docs/contract.md").exists()
