"""`scripts.check_words` reports dangling citations and banned phrases, and nothing else."""

import subprocess
from pathlib import Path

import pytest

from scripts import check_words

MODULE = '''"""Bounded queue: `docs/page.md#two-words`, serve/app.py, serve.app.Server, ADR 1."""


class Server:
    """Server that answers 503 while it drains (C-044)."""


# The command train.py is a user's; `whatever.csv` is data.
text = "whoever writes C-999 in a string is not prose"
'''
PAGE = """# Page

## Two words!

[the module](../serve/app.py), [here](#two-words), [out](https://example.com/x.md#y),
[folder](../serve), `serve/*.py`

```console
$ cat serve/none.py   # whoever
```
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A checkout with one rule, one decision, one module and one page, without a finding."""
    for file, text in {
        "docs/contract_rules.toml": "[rules.'Serving']\nC-044 = {}\n",
        "docs/adr/0001-names.md": "# Names\n",
        "docs/page.md": PAGE,
        "serve/app.py": MODULE,
        "serve/run.sh": "#!/bin/sh\n# Start serve/app.py.\necho whoever\n",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def test_clean_repository_has_no_finding(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Citations that resolve, strings, and fenced blocks of pages are passed over."""
    assert check_words.main([], repository) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("file", "old", "new", "finding"),
    [
        ("serve/app.py", "(C-044)", "(C-045)", "5: C-045 is no rule"),
        ("serve/app.py", "(C-044)", "(C-44)", "5: C-44 is no rule"),
        ("serve/app.py", "C-044", "CONTRACT 7.3", "5: 'CONTRACT 7.3' is not in this repository"),
        ("serve/app.py", "C-044", "PITFALLS C-1", "5: 'PITFALLS C-1' is not in this repository"),
        ("serve/app.py", "C-044", "PITFALLS A4-34", "5: 'PITFALLS A4-34' is not in this reposi"),
        ("serve/app.py", "C-044", "HOUSE §2", "5: 'HOUSE §2' is not in this repository"),
        ("serve/app.py", "ADR 1", "ADR 0002", "1: ADR 0002 is not in docs/adr"),
        ("serve/app.py", "#two-words", "#three", "1: docs/page.md has no heading #three"),
        ("serve/app.py", "docs/page.md", "docs/pages.md", "1: docs/pages.md does not exist"),
        ("serve/app.py", "serve/app.py", "serve/apps.py", "1: serve/apps.py does not exist"),
        ("serve/app.py", "serve/app.py", "apps.py", "1: no file is named apps.py"),
        ("serve/app.py", "serve.app.Server", "serve.app.Client", "1: serve.app.Client is no mod"),
        ("serve/app.py", "serve.app.Server", "serve.apps", "1: serve.apps is no module"),
        ("serve/app.py", "Bounded queue", "What waits", "1: docstring begins with 'What'"),
        (
            "serve/app.py",
            "Server that answers 503 while it drains (C-044).",
            "C-044, C-044.",
            "only",
        ),
        ("serve/app.py", "a user's", "of whoever\n# calls", "8: 'whoever': say instead"),
        ("serve/app.py", "a user's", "given\n# back", "8: 'given back': say instead"),
        ("serve/app.py", "Bounded queue", "The\nmodel is tried", "2: 'is tried': say instead"),
        ("serve/run.sh", "Start", "Whoever starts", "2: 'Whoever': say instead"),
        ("docs/page.md", "../serve/app.py", "serve/app.py", "5: link to serve/app.py: serve/app"),
        ("docs/page.md", "(../serve)", "(../../..)", "6: link to ../../..: ../../.. does not"),
        ("docs/page.md", "(#two-words)", "(#two)", "5: link to #two: no heading #two"),
        ("docs/page.md", "serve/*.py", "serve/*.toml", "6: serve/*.toml does not exist"),
        ("docs/page.md", "```\n", "```\n\nA stand-in.\n", "12: 'stand-in': say instead"),
    ],
)
def test_finding_names_file_line_and_problem(
    repository: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    old: str,
    new: str,
    finding: str,
) -> None:
    """Each kind of problem is one line, and the exit code is 1."""
    text = (repository / file).read_text()
    assert old in text
    at = text.rindex(old)
    (repository / file).write_text(text[:at] + new + text[at + len(old) :])

    assert check_words.main([], repository) == 1

    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{file}:")
    assert finding in line


def test_retry_is_no_finding(repository: Path) -> None:
    """A load that "is tried again" is plain English."""
    (repository / "serve/app.py").write_text('"""A load that fails is tried again."""\n')

    assert check_words.main([], repository) == 0


def test_paths_restrict_the_check(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Folders and files named on the command line are checked, others are not."""
    (repository / "serve/app.py").write_text("# Whoever.\n")
    (repository / "serves.py").write_text("# Whoever.\n")

    assert check_words.main(["docs", "serve/run.sh"], repository) == 0
    assert check_words.main(["--except", "serve", "serves.py"], repository) == 0
    assert check_words.main(["serve"], repository) == 1
    assert capsys.readouterr().out.count("\n") == 1
