"""The commands of pages in docs print the output that the page shows."""

import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / name for name in ("tutorial.md", "your-own-algorithm.md")]
TIMEOUT_SECONDS = 500
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^```python\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NEXT = "@@ next command @@"


def commands(page: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each command of a page and the lines of output shown below it."""
    for block in _BLOCK.findall(page):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *output = part.splitlines()
            yield command, output


def shows(output: str, shown: Sequence[str]) -> bool:
    """Return True if the shown lines occur in the output, in order; `…` matches anything."""
    pattern = "\n(?:.*\n)*?".join(
        ".*".join(map(re.escape, line.split("…"))) for line in shown if line != "…"
    )
    return re.search(rf"^{pattern}$", output, re.MULTILINE) is not None


def run(script: str, directory: Path) -> str:
    """Run a shell script, its children included, and return what they print."""
    process = subprocess.Popen(
        ["bash"],
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        return process.communicate(script, timeout=TIMEOUT_SECONDS)[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.canary
@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_prints_the_output_of_the_page(tmp_path: Path, page: Path) -> None:
    """A reader who follows a page sees what it shows (C-026, C-027, C-044, C-057)."""
    (tmp_path / "build").mkdir()
    for name in (".venv", "container", "local_test", "serve", "train"):
        (tmp_path / name).symlink_to(ROOT / name)
    for path, content in _FILE.findall(page.read_text("utf-8")):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    steps = list(commands(page.read_text("utf-8")))
    script = f"\necho; echo '{_NEXT}'\n".join(command for command, _ in steps)

    printed = run(script.replace("8080", str(free_port())), tmp_path)

    outputs = printed.split(_NEXT)
    assert len(outputs) == len(steps), printed
    for (command, shown), output in zip(steps, outputs, strict=True):
        assert shows(output, shown), f"$ {command}\n{output}\n--- the page shows:\n{shown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_leaves_nothing_out(page: Path) -> None:
    """A block of another kind would not be run; each block begins with a command."""
    text = page.read_text("utf-8")

    blocks = _BLOCK.findall(text)
    assert text.count("```") == 2 * (len(blocks) + len(_FILE.findall(text))) > 0
    assert all(block.startswith("$ ") for block in blocks)


@pytest.mark.parametrize(
    ("shown", "is_shown"),
    [
        ([], True),
        (["b"], True),
        (["a1", "b"], True),
        (["a…", "…", "c…3"], True),
        (["a"], False),
        (["b", "a1"], False),
        (["c…4"], False),
    ],
)
def test_shown_lines_are_compared_in_order(shown: list[str], *, is_shown: bool) -> None:
    """The comparison fails on a missing line, a part of a line and another order."""
    assert shows("a1\nx\nb\nc 2 3\n", shown) == is_shown
