import os
from pathlib import Path

import pytest

from container import cgroup
from container.errors import InvalidRequestError, ModelLoadError, ModelNotFoundError
from serve.multi_model import model_files


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    model = tmp_path / "models" / "m" / "model"
    (model / "code").mkdir(parents=True)
    (model / "xgboost-model").write_bytes(b"trees")
    (model / "code" / "inference.py").write_text("x = 1")
    return model


def test_url_below_a_root_is_its_directory(directory: Path, tmp_path: Path) -> None:
    """Resolves dots and links first (C-079)."""
    (tmp_path / "models" / "alias").symlink_to(directory)

    for url in (
        directory,
        tmp_path / "models" / "x" / ".." / "m" / "model",
        tmp_path / "models/alias",
    ):
        assert (
            model_files.directory_of(str(url), [tmp_path / "none", tmp_path / "models"])
            == directory
        )


@pytest.mark.parametrize(
    "url", ["models", "file:///etc", "http://x/", "", "/a\0b", "/" + "a" * 5000]
)
def test_what_is_no_absolute_path_is_no_url(url: str, tmp_path: Path) -> None:
    """Says that an absolute path is wanted (C-082)."""
    with pytest.raises(InvalidRequestError, match="absolute path of a directory"):
        model_files.directory_of(url, [tmp_path])


def test_url_outside_the_roots_is_refused_whether_it_exists_or_not(
    directory: Path, tmp_path: Path
) -> None:
    """The answer does not tell which files exist elsewhere: path traversal (C-082)."""
    (directory / "out").symlink_to(tmp_path)
    for url in ("/etc", "/nowhere", str(directory / "out"), f"{directory}/../../../.."):
        with pytest.raises(InvalidRequestError, match="outside the directories"):
            model_files.directory_of(url, [tmp_path / "models"])


def test_root_itself_is_no_directory_of_a_model(directory: Path, tmp_path: Path) -> None:
    """Refuses a root, which holds all models (C-082)."""
    models = tmp_path / "models"
    (tmp_path / "alias").symlink_to(models)

    for url in (models, models / "m" / "..", tmp_path / "alias"):
        with pytest.raises(InvalidRequestError, match="or is one of them itself"):
            model_files.directory_of(str(url), [models])
    assert model_files.directory_of(str(models / "m"), [models / "m", models]) == models / "m"


def test_file_or_nothing_is_no_directory(directory: Path, tmp_path: Path) -> None:
    """Answers 404, as multi-model-server does (C-082)."""
    for url in (directory / "xgboost-model", directory / "none", directory / ("x" * 300)):
        with pytest.raises(ModelNotFoundError):
            model_files.directory_of(str(url), [tmp_path / "models"])


def test_digest_is_of_names_and_contents(directory: Path, tmp_path: Path) -> None:
    """The same files elsewhere have the same digest; a name or a byte changes it."""
    copy = tmp_path / "copy"
    (copy / "code").mkdir(parents=True)
    for name in ("xgboost-model", "code/inference.py"):
        (copy / name).write_bytes((directory / name).read_bytes())
    original = model_files.digest(directory)
    assert model_files.digest(copy) == original

    (copy / "xgboost-model").write_bytes(b"treez")
    assert model_files.digest(copy) != original
    (copy / "xgboost-model").write_bytes(b"trees")
    (copy / "code" / "inference.py").rename(copy / "code" / "other.py")
    assert model_files.digest(copy) != original


def test_signature_changes_with_every_write_replacement_and_new_file(directory: Path) -> None:
    """Changes also where size and time of a file are forged."""
    seen = [model_files.signature(directory)]
    assert model_files.signature(directory) == seen[0]
    file = directory / "xgboost-model"
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)

    file.write_bytes(b"treez")
    os.utime(file, ns=times)
    seen.append(model_files.signature(directory))
    (directory / "new").write_bytes(b"trees")
    (directory / "new").replace(file)
    seen.append(model_files.signature(directory))
    (directory / "code" / "more.py").touch()
    seen.append(model_files.signature(directory))

    assert len(set(seen)) == 4


def test_what_is_no_file_is_refused_without_being_opened(directory: Path) -> None:
    """Does not open a FIFO, which would wait for a writer (C-082)."""
    os.mkfifo(directory / "code" / "pipe")

    for look in (model_files.signature, model_files.digest):
        with pytest.raises(ModelLoadError, match="code/pipe is neither"):
            look(directory)


def test_link_may_lead_to_a_file_inside_only(directory: Path, tmp_path: Path) -> None:
    """Names the link in the message (C-082)."""
    (directory / "alias").symlink_to("xgboost-model")
    model_files.signature(directory)
    (directory / "secret").symlink_to("/etc/passwd")

    with pytest.raises(ModelLoadError, match="secret is a link to a file outside"):
        model_files.signature(directory)


def test_more_files_than_a_model_has_are_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts directories as well, on all levels (C-082)."""
    monkeypatch.setattr(model_files, "_MAX_MEMBERS", 4)
    (directory / "a").mkdir()
    model_files.digest(directory)
    (directory / "a" / "b").mkdir()

    for look in (model_files.signature, model_files.digest):
        with pytest.raises(ModelLoadError, match="holds more than 4 files and directories"):
            look(directory)


def test_directories_too_deep_for_recursion_are_refused(directory: Path) -> None:
    """Protects later readers that recurse into directories (C-082)."""
    deep = directory
    for _ in range(101):
        deep = deep / "d"
        deep.mkdir()

    for look in (model_files.signature, model_files.digest):
        with pytest.raises(ModelLoadError, match="more than 100 directories deep"):
            look(directory)
    deep.rmdir()
    model_files.digest(directory)


def test_more_bytes_than_there_is_memory_are_not_read(directory: Path) -> None:
    """Refuses a large sparse file, which would take long to read (C-082)."""
    os.truncate(directory / "xgboost-model", cgroup.memory_bytes())

    with pytest.raises(ModelLoadError, match="MiB together; the container has"):
        model_files.digest(directory)


def test_names_that_are_no_text_are_no_problem(directory: Path) -> None:
    """Accepts file names of any bytes, as in archives."""
    (directory / os.fsdecode(b"\xff\xfe")).write_bytes(b"x")

    assert model_files.digest(directory) != ""
    assert model_files.signature(directory) != ""


def test_broken_link_and_unreadable_directory_are_model_errors(directory: Path) -> None:
    """Raises `ModelLoadError`, not `OSError` (C-082)."""
    (directory / "broken").symlink_to("nowhere")

    with pytest.raises(ModelLoadError, match="cannot be read"):
        model_files.signature(directory)
