import json
from pathlib import Path

import pytest

from container.errors import JobConfigError, PlatformError, UserError
from container.opt_ml import ChannelConfig, OptMl, ResourceConfig, replace_files


@pytest.fixture
def opt_ml(tmp_path: Path) -> OptMl:
    (tmp_path / "input" / "config").mkdir(parents=True)
    return OptMl(tmp_path)


def _configure(opt_ml: OptMl, name: str, content: object) -> None:
    file = opt_ml.base_dir / "input" / "config" / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def test_hyperparameters_absent_file_is_empty(opt_ml: OptMl) -> None:
    """C-015: a job without the file has no hyperparameters."""
    assert opt_ml.hyperparameters() == {}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[1]", "must hold a JSON object; it holds a list"),
        ("null", "must hold a JSON object; it holds a NoneType"),
        ("[" * 100_000, "is not JSON"),
        (" " * (2**20 + 1), "at most 1048576 are read"),
    ],
)
def test_hyperparameters_broken_file_says_what_it_holds(
    opt_ml: OptMl, content: str, problem: str
) -> None:
    """Refuses a file that is empty, broken, not a dictionary, or far too large."""
    _configure(opt_ml, "hyperparameters.json", content)

    with pytest.raises(JobConfigError, match=rf"hyperparameters\.json.*{problem}"):
        opt_ml.hyperparameters()


def test_channels_entry_with_the_input_mode_alone_works(opt_ml: OptMl) -> None:
    """C-017: ContentType, S3DistributionType and RecordWrapperType are optional."""
    _configure(opt_ml, "inputdataconfig.json", {"train": {"TrainingInputMode": "File"}})

    assert opt_ml.channels() == {"train": ChannelConfig()}


def test_channels_absent_file_takes_the_directories(opt_ml: OptMl) -> None:
    """A tree laid out by hand needs no configuration."""
    (opt_ml.data_dir / "train").mkdir(parents=True)
    (opt_ml.data_dir / "validation").mkdir()

    assert list(opt_ml.channels()) == ["train", "validation"]


@pytest.mark.parametrize("entry", ["File", 7, {"ContentType": 5}])
def test_channels_malformed_entry_is_named(opt_ml: OptMl, entry: object) -> None:
    """The message says which channel is wrong."""
    _configure(opt_ml, "inputdataconfig.json", {"train": entry})

    with pytest.raises(UserError, match="'train'"):
        opt_ml.channels()


def test_resource_config_ignores_unknown_keys_and_sorts_as_text(opt_ml: OptMl) -> None:
    """C-022: the documented three keys are enough and more do no harm."""
    _configure(
        opt_ml,
        "resourceconfig.json",
        {
            "current_host": "algo-10",
            "hosts": ["algo-2", "algo-10"],
            "network_interface_name": "eth0",
            "topology": {"x": 1},
        },
    )

    config = opt_ml.resource_config()

    assert config == ResourceConfig("algo-10", ("algo-10", "algo-2"))
    assert config.is_leader


def test_resource_config_absent_file_is_one_host(opt_ml: OptMl) -> None:
    """C-022: a missing file means a single host."""
    assert opt_ml.resource_config().is_leader


def test_resource_config_of_another_host_is_refused(opt_ml: OptMl) -> None:
    """A host that is not in the list cannot know its rank."""
    _configure(opt_ml, "resourceconfig.json", {"current_host": "algo-3", "hosts": ["algo-1"]})

    with pytest.raises(JobConfigError, match="current_host"):
        opt_ml.resource_config()


def test_write_failure_is_cut_to_what_the_platform_shows(opt_ml: OptMl) -> None:
    """C-028: the first 1,024 characters are kept."""
    opt_ml.write_failure("é" * 3000)

    assert opt_ml.failure_file.read_text("utf-8") == "é" * 1023 + "\n"


def test_write_failure_has_further_lines_below_the_message(opt_ml: OptMl) -> None:
    """The message stays one line; all lines together have 1,024 characters (C-028)."""
    opt_ml.write_failure("a\nb", ["one", "tw\ro", "x" * 3000])

    lines = opt_ml.failure_file.read_text("utf-8").splitlines()
    assert lines[:3] == ["a\\nb", "one", "tw\\ro"]
    assert len(opt_ml.failure_file.read_text("utf-8")) == 1024


def test_replace_files_failing_block_leaves_the_directory_as_it_was(tmp_path: Path) -> None:
    """C-030: a save that fails leaves the old model and nothing else."""
    (tmp_path / "model").write_text("old")

    def save() -> None:
        with replace_files(tmp_path, last="manifest") as staging:
            (staging / "model").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        save()

    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model").read_text() == "old"


def test_replace_files_puts_all_files_in_place_and_clears_old_staging(tmp_path: Path) -> None:
    """Removes the remains of a killed run, and keeps other files."""
    (tmp_path / ".staging-dead").mkdir()
    (tmp_path / ".staging-dead" / "model").write_text("half")
    (tmp_path / "notes.txt").write_text("mine")

    with replace_files(tmp_path, last="manifest") as staging:
        (staging / "manifest").write_text("{}")
        (staging / "model").write_text("new")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest", "model", "notes.txt"]
    assert (tmp_path / "model").read_text() == "new"


def test_replace_files_in_a_directory_that_cannot_exist_is_a_platform_error(
    tmp_path: Path,
) -> None:
    """Says what to do about the directory."""
    (tmp_path / "model").write_text("a file")

    with (
        pytest.raises(PlatformError, match="cannot be written"),
        replace_files(tmp_path / "model", last="manifest"),
    ):
        pass


def test_write_failure_uses_the_space_that_was_reserved(opt_ml: OptMl) -> None:
    """Reuses the reserved blocks, so that a full disk is no obstacle."""
    opt_ml.reserve_failure()
    (reserve,) = opt_ml.failure_file.parent.iterdir()
    reserved = reserve.stat()

    opt_ml.write_failure("the disk is full")

    assert opt_ml.failure_file.read_text() == "the disk is full\n"
    assert opt_ml.failure_file.stat().st_ino == reserved.st_ino
    assert reserved.st_size >= 4 * 1024
    assert list(opt_ml.failure_file.parent.iterdir()) == [opt_ml.failure_file]


def test_reserve_is_given_back_and_is_no_failure(opt_ml: OptMl) -> None:
    """C-026: a job that succeeds leaves nothing of it."""
    opt_ml.reserve_failure()
    assert not opt_ml.failure_file.exists()

    opt_ml.release_reserve()

    assert list(opt_ml.failure_file.parent.iterdir()) == []
