"""Several hosts: how their trees are laid out, run together, and put together again."""

import os
from pathlib import Path

import pytest

from local_test.hosts import collect, lay_out
from local_test.ml_tree import MlTree

HOSTS = ("algo-1", "algo-2", "algo-3")


@pytest.fixture
def trees(ml: MlTree, tmp_path: Path) -> dict[str, MlTree]:
    """Five files dealt out, one on every host."""
    files = {f"{folder}/{n}.csv": str(n).encode() for n, folder in enumerate("aabbc")}
    ml.write_channel("train", files, distribution="ShardedByS3Key")
    ml.write_channel("validation", {"all.csv": b"all"})
    ml.write_hyperparameters({"num_round": "3"})
    return lay_out(ml, HOSTS, tmp_path / "hosts")


def files_of(tree: MlTree, channel: str) -> list[str]:
    directory = tree.channel_dir(channel)
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*.csv"))


def test_objects_are_dealt_out_or_repeated(trees: dict[str, MlTree]) -> None:
    """As the channel says: ShardedByS3Key or FullyReplicated; names below the channel are kept."""
    assert [files_of(tree, "train") for tree in trees.values()] == [
        ["a/0.csv", "b/3.csv"],
        ["a/1.csv", "c/4.csv"],
        ["b/2.csv"],
    ]
    assert [files_of(tree, "validation") for tree in trees.values()] == [["all.csv"]] * 3
    assert (trees["algo-3"].channel_dir("train") / "b/2.csv").read_bytes() == b"2"


def test_host_without_objects_has_an_empty_channel(ml: MlTree, tmp_path: Path) -> None:
    """With fewer objects than hosts some get none."""
    ml.write_channel("train", {"only.csv": b"1"}, distribution="ShardedByS3Key")

    trees = lay_out(ml, HOSTS, tmp_path / "hosts")

    assert [files_of(tree, "train") for tree in trees.values()] == [["only.csv"], [], []]
    assert trees["algo-2"].channel_dir("train").is_dir()


def test_every_host_knows_itself_and_the_others(trees: dict[str, MlTree]) -> None:
    """Everything else in the configuration is the same."""
    for host, tree in trees.items():
        config = tree.resource_config_file.read_text()
        assert f'"current_host": "{host}"' in config
        assert all(f'"{other}"' in config for other in HOSTS)
        assert '"num_round": "3"' in tree.hyperparameters_file.read_text()
        assert tree.channels()["train"]["S3DistributionType"] == "ShardedByS3Key"


def test_nothing_of_an_earlier_layout_is_left(ml: MlTree, tmp_path: Path) -> None:
    """Fewer hosts than before leave no tree of those that are gone."""
    lay_out(ml, HOSTS, tmp_path / "hosts")

    lay_out(ml, HOSTS[:2], tmp_path / "hosts")

    assert sorted(os.listdir(tmp_path / "hosts")) == ["algo-1", "algo-2"]


def test_what_the_hosts_leave_is_put_together(trees: dict[str, MlTree], ml: MlTree) -> None:
    """One model directory, one output; the reason is that of the first host that has one."""
    (ml.model_dir / "old").touch()
    (trees["algo-1"].model_dir / "model").write_text("from 1")
    (trees["algo-2"].model_dir / "model").write_text("from 2")
    (trees["algo-3"].output_data_dir / "plot").touch()
    trees["algo-2"].failure_file.write_text("because of 2")
    trees["algo-3"].failure_file.write_text("because of 3")

    collect(trees, ml)

    assert ml.model_files() == ("model",)
    assert (ml.model_dir / "model").read_text() == "from 2"
    assert (ml.output_data_dir / "plot").exists()
    assert ml.failure_reason() == "because of 2"
