import json
from pathlib import Path

import pytest

from local_test.ml_tree import MlTree


def test_create_lays_out_what_every_job_finds(tmp_path: Path) -> None:
    """A new tree has all directories and the three files that the platform always writes."""
    MlTree(tmp_path).create()

    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "checkpoints",
        "input",
        "input/config",
        "input/config/hyperparameters.json",
        "input/config/inputdataconfig.json",
        "input/config/resourceconfig.json",
        "input/data",
        "model",
        "output",
        "output/data",
    ]


def test_create_keeps_what_is_there(ml: MlTree) -> None:
    """Laying out a tree twice loses nothing."""
    ml.write_hyperparameters({"num_round": "5"})

    ml.create()

    assert json.loads(ml.hyperparameters_file.read_text()) == {"num_round": "5"}


def test_hyperparameter_that_is_no_string_is_refused(ml: MlTree) -> None:
    """The API takes only strings, so a number is a mistake of the test, not a hyperparameter."""
    with pytest.raises(TypeError, match="'num_round': 5 is not a string"):
        ml.write_hyperparameters({"num_round": 5})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({str(number): "" for number in range(101)}, "101 hyperparameters; at most 100"),
        ({"n" * 257: ""}, "at most 256 characters, this one 257"),
        ({"name": "v" * 2501}, "'name': a value has at most 2500 characters, this one 2501"),
    ],
)
def test_hyperparameters_over_a_limit_of_the_service_are_refused(
    ml: MlTree, values: dict[str, str], problem: str
) -> None:
    """Input that CreateTrainingJob would not accept never reaches a container."""
    with pytest.raises(ValueError, match=problem):
        ml.write_hyperparameters(values)


def test_channels_are_described_and_laid_out_side_by_side(ml: MlTree) -> None:
    """Each channel has its directory with sub-folders and its entry; a content type is optional."""
    ml.write_channel("train", {"a.csv": b"1,2\n", "part/b.csv": b"3\n"}, content_type="text/csv")
    ml.write_channel("extra", {}, input_mode="FastFile")

    assert (ml.channel_dir("train") / "part" / "b.csv").read_bytes() == b"3\n"
    assert json.loads(ml.input_data_config_file.read_text()) == {
        "train": {
            "TrainingInputMode": "File",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
            "ContentType": "text/csv",
        },
        "extra": {
            "TrainingInputMode": "FastFile",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        },
    }


def test_channel_written_again_loses_its_old_objects(ml: MlTree) -> None:
    """A channel holds what was written last and nothing more."""
    ml.write_channel("train", {"old.csv": b""})

    ml.write_channel("train", {"new.csv": b""})

    assert [file.name for file in ml.channel_dir("train").iterdir()] == ["new.csv"]


@pytest.mark.parametrize("channel", ["", "..", "a/b", "with space", "x" * 65])
def test_channel_name_that_the_service_refuses_is_refused(ml: MlTree, channel: str) -> None:
    """A channel cannot leave the tree, nor be called what no request could call it."""
    with pytest.raises(ValueError, match="a name is"):
        ml.write_channel(channel, {})


def test_channel_object_outside_the_channel_is_refused(ml: MlTree) -> None:
    """An object key with .. stays inside its channel's directory."""
    with pytest.raises(ValueError, match="leaves the channel's directory"):
        ml.write_channel("train", {"../other/a.csv": b""})


def test_channel_beyond_the_limit_is_refused(ml: MlTree) -> None:
    """A job has at most 20 channels."""
    for number in range(20):
        ml.write_channel(f"channel-{number}", {})

    with pytest.raises(ValueError, match="one more than the 20 allowed"):
        ml.write_channel("channel-20", {})


def test_hosts_are_sorted_as_text(ml: MlTree) -> None:
    """algo-10 precedes algo-2, as on the platform."""
    ml.write_hosts("algo-2", ("algo-1", "algo-2", "algo-10"))

    config = json.loads(ml.resource_config_file.read_text())
    assert config["current_host"] == "algo-2"
    assert config["hosts"] == ["algo-1", "algo-10", "algo-2"]


def test_current_host_that_is_no_host_is_refused(ml: MlTree) -> None:
    """A tree belongs to one of the hosts that it lists."""
    with pytest.raises(ValueError, match="'algo-3' is not one of algo-1, algo-2"):
        ml.write_hosts("algo-3", ("algo-1", "algo-2"))


def test_failure_reason_is_cut_as_the_platform_cuts_it(ml: MlTree) -> None:
    """DescribeTrainingJob shows 1,024 characters, which are not bytes."""
    ml.failure_file.write_text("ä" * 2000)

    assert ml.failure_reason() == "ä" * 1024


def test_failure_reason_of_a_job_without_failure_file_is_none(ml: MlTree) -> None:
    """No file is not the same as an empty one."""
    assert ml.failure_reason() is None


def test_model_files_are_the_members_of_the_archive(ml: MlTree) -> None:
    """Members are relative to model/, and directories are none."""
    (ml.model_dir / "code").mkdir()
    (ml.model_dir / "code" / "inference.py").touch()
    (ml.model_dir / "a-model").touch()

    assert ml.model_files() == ("a-model", "code/inference.py")


def test_empty_outputs_leaves_only_input_and_checkpoints(ml: MlTree) -> None:
    """A job that starts again after an interruption finds its checkpoints and nothing else."""
    (ml.checkpoints_dir / "5.ckpt").touch()
    (ml.model_dir / "half").touch()
    ml.failure_file.touch()

    ml.empty_outputs()

    assert ml.model_files() == ()
    assert ml.failure_reason() is None
    assert ml.output_data_dir.is_dir()
    assert (ml.checkpoints_dir / "5.ckpt").exists()
