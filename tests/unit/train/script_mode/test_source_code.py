"""The sources of a training script: found, copied, or refused by the name of the key."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from container.errors import JobConfigError, PlatformError
from container.opt_ml import OptMl
from tests.unit.train.conftest import Tree
from train.script_mode import source_code
from train.script_mode.script_request import Option, ScriptRequest


def _request(submit_directory: str | None = None, program: str = "train.py") -> ScriptRequest:
    origin = "hyperparameter 'sagemaker_submit_directory'"
    submitted = Option(submit_directory, origin) if submit_directory else None
    return ScriptRequest(Option(program, "hyperparameter 'sagemaker_program'"), submitted, None)


def _archive(path: Path, names: dict[str, bytes], mode: str = "w:gz") -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _names(directory: Path) -> list[str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return sorted(p.relative_to(directory).as_posix() for p in files if p.name[0] != ".")


@pytest.mark.parametrize("url", ["/opt/ml/input/data/code", "file:///opt/ml/input/data/code", None])
def test_directory_is_copied(tree: Tree, url: str | None) -> None:
    """A channel may be read-only; without a key it is the channel `code` (C-018)."""
    tree.channel("code", {"train.py": b"1", "lib/a.py": b"2"})

    directory = source_code.prepare(OptMl(tree.root), _request(url))

    assert directory == tree.root / "code"
    assert _names(directory) == ["lib/a.py", "train.py"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2"])
@pytest.mark.parametrize("url", ["/opt/ml/input/data/code/sourcedir.tar.gz", None])
def test_archive_is_unpacked(tree: Tree, url: str | None, mode: str) -> None:
    """The SDK sends one with enable_network_isolation."""
    channel = tree.channel("code", {})
    _archive(channel / "sourcedir.tar.gz", {"train.py": b"1", "lib/a.py": b"2"}, mode)

    assert _names(source_code.prepare(OptMl(tree.root), _request(url))) == ["lib/a.py", "train.py"]


def test_one_file_and_a_script_with_its_full_path(tree: Tree) -> None:
    """A file is copied alone, the directory of a script as a whole."""
    channel = tree.channel("scripts", {"train.py": b"1", "a.py": b"2"})
    opt_ml = OptMl(tree.root)

    one = _names(source_code.prepare(opt_ml, _request(str(channel / "train.py"))))
    both = _names(
        source_code.prepare(opt_ml, _request(program="/opt/ml/input/data/scripts/train.py"))
    )

    assert one == ["train.py"]
    assert both == ["a.py", "train.py"]


def test_sources_of_an_earlier_job_are_replaced_and_those_of_others_are_kept(tree: Tree) -> None:
    """A second job in the same tree runs its own sources; a mounted directory is never emptied."""
    opt_ml = OptMl(tree.root)
    channel = tree.channel("code", {"old.py": b"1"})
    source_code.prepare(opt_ml, _request())
    (channel / "old.py").rename(channel / "new.py")

    assert _names(source_code.prepare(opt_ml, _request())) == ["new.py"]

    (tree.root / "code" / ".byoa-copied").unlink()
    (tree.root / "code" / "mine.py").touch()
    assert _names(source_code.prepare(opt_ml, _request("s3://b/x"))) == ["mine.py", "new.py"]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("s3://bucket/sourcedir.tar.gz", "sources are not downloaded.*enable_network_isolation"),
        ("https://host/x.tar.gz", "sources are not downloaded"),
        ("/opt/ml/nowhere", "there is no such directory or archive; put the sources into"),
        ("/opt/ml/input/data/code/x.zip", "it is not a tar archive"),
        ("/opt/ml/input/data/code/cut.tar.gz", "the archive cannot be unpacked"),
        pytest.param(
            "/opt/ml/input/data/code/evil.tar.gz",
            "the archive cannot be unpacked: .*outside",
            marks=pytest.mark.skipif(
                not hasattr(tarfile, "data_filter"), reason="this Python's tarfile has no filters"
            ),
        ),
    ],
)
def test_bad_sources_are_refused_by_name(tree: Tree, url: str, problem: str) -> None:
    """Says which key, its value, and the remedy (C-104)."""
    channel = tree.channel("code", {"x.zip": b"PK"})
    _archive(channel / "evil.tar.gz", {"../out.py": b"1"})
    _archive(channel / "whole.tar.gz", {"train.py": bytes(range(256)) * 999})
    content = (channel / "whole.tar.gz").read_bytes()
    (channel / "cut.tar.gz").write_bytes(content[: len(content) // 2])

    with pytest.raises(JobConfigError, match=problem) as caught:
        source_code.prepare(OptMl(tree.root), _request(url))

    assert f"'sagemaker_submit_directory'={url!r}: " in caught.value.message
    assert not (tree.root / "out.py").exists()


def test_directory_of_the_sources_itself(tree: Tree) -> None:
    """Local mode names it; never copied into itself, and no copy of an earlier job is lost."""
    opt_ml = OptMl(tree.root)
    tree.channel("code", {"train.py": b"1"})
    source_code.prepare(opt_ml, _request())

    assert _names(source_code.prepare(opt_ml, _request("/opt/ml/code"))) == ["train.py"]

    for file in (tree.root / "code").iterdir():
        file.unlink()
    for url in ("/opt/ml/code", "/opt/ml"):
        with pytest.raises(JobConfigError, match="itself, which is empty, or a directory above"):
            source_code.prepare(opt_ml, _request(url))


def test_no_sources_at_all(tree: Tree) -> None:
    """The remedy is the channel `code`."""
    with pytest.raises(
        JobConfigError, match=r"'sagemaker_program'='train.py': the job has no sour"
    ):
        source_code.prepare(OptMl(tree.root), _request())


def test_directory_that_cannot_be_written(tree: Tree) -> None:
    """The message names it."""
    tree.channel("code", {"train.py": b""})
    (tree.root / "code").write_text("a file")

    with pytest.raises(
        PlatformError, match=r"the sources cannot be copied to .*code: File exists;"
    ):
        source_code.prepare(OptMl(tree.root), _request())


def test_file_that_cannot_be_copied(tree: Tree) -> None:
    """The first reason of a directory is told, not the list of all; dead links are left out."""
    channel = tree.channel("code", {"train.py": b""})
    (channel / "gone.py").symlink_to("/nowhere")
    assert _names(source_code.prepare(OptMl(tree.root), _request())) == ["train.py"]

    os.mkfifo(channel / "pipe")

    with pytest.raises(PlatformError, match=r"/code: `.*pipe` is a named pipe; the directory"):
        source_code.prepare(OptMl(tree.root), _request())
