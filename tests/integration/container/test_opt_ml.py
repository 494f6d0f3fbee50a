import os
import sys
from pathlib import Path

from container.opt_ml import replace_files


def test_replace_files_killed_at_any_step_leaves_whole_files_that_belong_together(
    tmp_path: Path,
) -> None:
    """C-030: a process that dies before its first, second, … access to the file system."""
    step = exit_code = 1
    while exit_code:
        directory = tmp_path / str(step)
        directory.mkdir()
        for name in ("manifest", "model", "other"):
            (directory / name).write_text("old")
        exit_code = _replace_in_a_child(directory, killed_at=step)
        kept = {path.name: path.read_text() for path in directory.iterdir() if path.is_file()}
        assert set(kept.values()) <= {"old", "new"}
        assert {"model", "other"} <= set(kept)
        if "manifest" in kept:
            assert len(set(kept.values())) == 1
        step += 1

    assert step > 15
    assert kept == {"manifest": "new", "model": "new", "other": "new"}


def _replace_in_a_child(directory: Path, *, killed_at: int) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    n_steps = 0

    def count(event: str, _: object) -> None:
        nonlocal n_steps
        n_steps += event.startswith(("open", "os.", "shutil.", "tempfile."))
        if n_steps == killed_at:
            os._exit(9)

    sys.addaudithook(count)
    with replace_files(directory, last="manifest") as staging:
        for name in ("manifest", "model", "other"):
            (staging / name).write_text("new")
    os._exit(0)
