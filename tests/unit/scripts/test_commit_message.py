"""`scripts.commit_message` accepts a short subject with an area and a body, and nothing else."""

from pathlib import Path

import pytest

from scripts import commit_message

GOOD = "serve: answer 503 while the server drains\n\nA load balancer stops sending then.\n"


def test_good_message_is_accepted(tmp_path: Path) -> None:
    """The exit code is 0."""
    file = tmp_path / "message"
    file.write_text(GOOD)

    assert commit_message.main([str(file)]) == 0


@pytest.mark.parametrize(
    "message",
    [
        "# Comment of the editor.\n" + GOOD + "# Please enter the commit message.\n",
        GOOD + f"{commit_message._SCISSORS}\ndiff --git a/x b/x\n",
        f"docs, tests: {'x' * 59}\n\nWhy.\n",
        "Merge branch 'main'\n",
        'Revert "serve: answer 503"\n\nThis reverts commit 0123.\n',
        "fixup! serve: answer 503 while the server drains\n",
    ],
)
def test_form_of_git_is_accepted(message: str) -> None:
    """Comments, a diff below the scissors line, merges, reverts and fix-ups are no problem."""
    assert list(commit_message.problems(message)) == []


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (GOOD.replace("serve: ", ""), "is not of the form 'area: imperative summary'"),
        (GOOD.replace("serve", "Serve"), "is not of the form"),
        ("", "is not of the form"),
        (GOOD.replace("drains", "x" * 40), "subject has 75 characters; at most 72"),
        (GOOD.replace("drains", "drains."), "subject ends with a full stop"),
        (GOOD.replace("\n\n", "\n"), "second line 'A load balancer"),
        (GOOD.splitlines()[0], "body is missing"),
        (GOOD.replace("A load balancer stops sending then.", "# nothing"), "body is missing"),
        (
            GOOD.replace("A load balancer stops sending then.", "Signed-off-by: A <a@b.c>"),
            "body is missing",
        ),
    ],
)
def test_problem_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], message: str, problem: str
) -> None:
    """Each is a line on stderr, and the exit code is 1."""
    file = tmp_path / "message"
    file.write_text(message)

    assert commit_message.main([str(file)]) == 1
    assert problem in capsys.readouterr().err
