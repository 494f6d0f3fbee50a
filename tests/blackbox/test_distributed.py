"""`train` on several hosts: processes on loopback addresses, containers on a network."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xgboost

from local_test.backends import Backend
from local_test.datasets import CONTENT_TYPE, TabularDataset
from local_test.hosts import RunningHosts, lay_out
from local_test.ml_tree import MlTree
from local_test.outcomes import FinishedRun
from tests.waiting import PATIENCE_SECONDS

# One thread: the hosts of a test share the processors of one machine.
CLASSIFIER = {"objective": "binary:logistic", "num_round": "5", "max_depth": "3", "nthread": "1"}
ENDLESS = CLASSIFIER | {"num_round": "1000000"}


@dataclass(frozen=True)
class Finished:
    """A job that ran to its end on all hosts; lists in the order of the hosts."""

    trees: Mapping[str, MlTree]
    runs: Mapping[str, FinishedRun]

    @property
    def exit_codes(self) -> list[int]:
        return [run.exit_code for run in self.runs.values()]

    @property
    def reasons(self) -> list[str | None]:
        return [tree.failure_reason() for tree in self.trees.values()]

    @property
    def model_files(self) -> list[tuple[str, ...]]:
        return [tree.model_files() for tree in self.trees.values()]

    @property
    def output(self) -> str:
        return "\n".join(f"{host}:\n{run.output}" for host, run in self.runs.items())

    def metric_lines(self) -> list[list[str]]:
        return [re.findall(r"^\[\d+\]\t.*", run.output, re.M) for run in self.runs.values()]


class Job:
    """A job on several hosts, not yet started. Its channels are changed before `lay_out`."""

    def __init__(self, backend: Backend, root: Path) -> None:
        self.backend = backend
        self.ml = MlTree(root / "ml").create()
        self._root = root
        self.trees: dict[str, MlTree] = {}

    def lay_out(self, n_hosts: int, hyperparameters: Mapping[str, str] = CLASSIFIER) -> None:
        self.ml.write_hyperparameters(hyperparameters)
        names = self.backend.host_names(n_hosts)
        self.trees = lay_out(self.ml, names, self._root / "hosts")

    def tree(self, index: int) -> MlTree:
        return list(self.trees.values())[index]

    def start(self, **environment: str) -> RunningHosts:
        return self.backend.start_training_on_hosts(self.trees, environment=environment)

    def run(self, **environment: str) -> Finished:
        with self.start(**environment) as running:
            return Finished(self.trees, running.finish(PATIENCE_SECONDS))


@pytest.fixture
def job(backend: Backend, tmp_path: Path, cancer: TabularDataset) -> Job:
    """The breast cancer set in four files that are dealt out, the validation set on every host."""
    job = Job(backend, tmp_path)
    write_train(job, [b"".join(part) for part in deal(cancer.train, 4)])
    job.ml.write_channel(
        "validation", {"validation.csv": cancer.validation}, content_type=CONTENT_TYPE
    )
    return job


def deal(records: bytes, n_parts: int) -> list[list[bytes]]:
    lines = records.splitlines(keepends=True)
    return [lines[index::n_parts] for index in range(n_parts)]


def write_train(job: Job, parts: Iterable[bytes], *, distribution: str = "ShardedByS3Key") -> None:
    files = {f"part-{index}.csv": part for index, part in enumerate(parts)}
    job.ml.write_channel("train", files, content_type=CONTENT_TYPE, distribution=distribution)


def booster_of(tree: MlTree) -> xgboost.Booster:
    return xgboost.Booster(model_file=bytearray((tree.model_dir / "xgboost-model").read_bytes()))


Alone = Callable[..., MlTree]


@pytest.fixture
def alone(backend: Backend, tmp_path: Path) -> Alone:
    """Train on one host with all of these records, and return its tree."""

    def train(records: bytes, validation: bytes, hyperparameters: Mapping[str, str]) -> MlTree:
        ml = MlTree(tmp_path / "alone").create()
        ml.write_hyperparameters(hyperparameters)
        ml.write_channel("train", {"train.csv": records}, content_type=CONTENT_TYPE)
        ml.write_channel("validation", {"v.csv": validation}, content_type=CONTENT_TYPE)
        run = backend.run_training(ml, timeout_seconds=PATIENCE_SECONDS)
        assert run.exit_code == 0, run.output
        (ml.root / "metrics").write_text("\n".join(re.findall(r"^\[\d+\]\t.*", run.output, re.M)))
        return ml

    return train


def numbers(lines: Iterable[str]) -> np.ndarray:
    return np.array([[float(n) for n in re.findall(r":([-\d.e]+)", line)] for line in lines])


@pytest.mark.canary
def test_shards_make_the_model_of_the_whole(
    job: Job, alone: Alone, cancer: TabularDataset, features: np.ndarray
) -> None:
    """Three hosts, two with shards and one without any, one model (C-023, C-024, C-025).

    Metrics of XGBoost's and of ours are those of one host with all records; one host prints them,
    and saves.
    """
    hyperparameters = CLASSIFIER | {"eval_metric": "logloss,accuracy,balanced_accuracy,mse,r2"}
    write_train(job, [b"".join(part) for part in deal(cancer.train, 2)])
    job.lay_out(3, hyperparameters)

    finished = job.run()

    assert finished.exit_codes == [0, 0, 0], finished.output
    assert finished.reasons == [None] * 3
    assert finished.model_files == [("byoa-manifest.json", "xgboost-model"), (), ()]
    first, *others = finished.metric_lines()
    assert (len(first), others) == (5, [[], []])
    whole = alone(cancer.train, cancer.validation, hyperparameters)
    expected = (whole.root / "metrics").read_text().splitlines()
    # Bins are cut from each host's own sketch: not quite where one host would cut them.
    np.testing.assert_allclose(numbers(first), numbers(expected), atol=0.03)
    np.testing.assert_allclose(
        booster_of(job.tree(0)).predict(xgboost.DMatrix(features)),
        booster_of(whole).predict(xgboost.DMatrix(features)),
        atol=0.15,
    )


@pytest.mark.docker_cases(0)
@pytest.mark.parametrize(("odd_line", "base"), [(b"", 1), (b"1 0:0.5\n", 0)])
def test_hosts_agree_what_libsvm_counts_from(
    job: Job, cancer: TabularDataset, odd_line: bytes, base: int
) -> None:
    """A column 0 on one host makes all hosts count from 0; without any they count from 1
    (C-101).
    """
    lines = [as_libsvm(line) for line in cancer.train.splitlines()]
    files = [b"".join(lines[0::2]), b"".join(lines[1::2]) + odd_line]
    job.ml.write_channel(
        "train",
        {f"part-{index}": file for index, file in enumerate(files)},
        content_type="text/libsvm",
        distribution="ShardedByS3Key",
    )
    validation = b"".join(as_libsvm(line) for line in cancer.validation.splitlines())
    job.ml.write_channel("validation", {"all": validation}, content_type="text/libsvm")
    job.lay_out(2)

    finished = job.run()

    assert finished.exit_codes == [0, 0], finished.output
    assert booster_of(job.tree(0)).num_features() == 31 - base
    described = json.loads((job.tree(0).model_dir / "byoa-manifest.json").read_bytes())
    assert described["libsvm_base"] == base


def ranking(n_lists: int, n_columns: int = 4) -> list[bytes]:
    """Lists of eight records each; the features have few values, whose bins no shard changes."""
    random = np.random.default_rng(2)
    lists = []
    for query_id in range(n_lists):
        features = random.integers(0, 10, (8, n_columns))
        grades = (features[:, 0] + random.integers(0, 3, 8)) // 3
        lists.append(
            b"".join(
                b"%d qid:%d" % (grade, query_id)
                + b"".join(b" %d:%d" % cell for cell in enumerate(row))
                + b"\n"
                for grade, row in zip(grades.tolist(), features.tolist(), strict=True)
            )
        )
    return lists


def write_lists(job: Job, *files: bytes) -> None:
    content = {f"part-{index}": file for index, file in enumerate(files)}
    for name in ("train", "validation"):
        job.ml.write_channel(
            name, content, content_type="text/libsvm", distribution="ShardedByS3Key"
        )


RANKING = {"objective": "rank:ndcg", "num_round": "5", "max_depth": "3", "nthread": "1"}


@pytest.mark.docker_cases(0)
def test_lists_of_all_hosts_make_one_ranking(job: Job) -> None:
    """The model is the one that XGBoost trains directly on all lists (C-097)."""
    lists = ranking(40)
    write_lists(job, b"".join(lists[:20]), b"".join(lists[20:]))
    job.lay_out(2, RANKING)

    finished = job.run()

    assert finished.exit_codes == [0, 0], finished.output
    cells = [line.split() for line in b"".join(lists).splitlines()]
    rows = np.array([[float(cell.rpartition(b":")[2]) for cell in line] for line in cells])
    matrix = xgboost.DMatrix(rows[:, 2:], rows[:, 0], qid=rows[:, 1].astype(int))
    direct = xgboost.train({"objective": "rank:ndcg", "max_depth": 3}, matrix, 5)
    found = booster_of(job.tree(0)).predict(matrix)
    np.testing.assert_allclose(found, direct.predict(matrix), atol=1e-5)


@pytest.mark.docker_cases(0)
def test_list_that_is_torn_between_hosts_is_refused(job: Job) -> None:
    """Refuses a list of which two hosts have a half each (C-028)."""
    lists = ranking(40)
    head, tail = lists[20][:60].rpartition(b"\n")[0] + b"\n", lists[20]
    write_lists(job, b"".join(lists[:20]) + head, tail.removeprefix(head) + b"".join(lists[21:]))
    job.lay_out(2, RANKING)

    finished = job.run()

    assert finished.exit_codes == [1, 1], finished.output
    assert all("both have records with query id 20" in str(why) for why in finished.reasons)


def as_libsvm(line: bytes) -> bytes:
    """A record of CSV as libsvm that counts columns from 1."""
    label, *cells = line.split(b",")
    return label + b"".join(b" %d:%s" % cell for cell in enumerate(cells, 1)) + b"\n"


@pytest.mark.docker_cases(0)
def test_replicas_count_as_many_times(
    job: Job, alone: Alone, cancer: TabularDataset, features: np.ndarray
) -> None:
    """A replicated channel is not divided: two hosts learn from every record twice."""
    write_train(job, [cancer.train], distribution="FullyReplicated")
    job.lay_out(2)

    finished = job.run()

    assert finished.exit_codes == [0, 0], finished.output
    doubled = alone(2 * cancer.train, cancer.validation, CLASSIFIER)
    np.testing.assert_allclose(
        booster_of(job.tree(0)).predict(xgboost.DMatrix(features)),
        booster_of(doubled).predict(xgboost.DMatrix(features)),
        atol=1e-5,
    )


@pytest.mark.docker_cases(0)
def test_early_stopping_stops_all_hosts_in_the_same_round(job: Job, cancer: TabularDataset) -> None:
    """Hosts with different validation records stop in the same round (C-024)."""
    job.ml.write_channel(
        "validation",
        {f"{index}.csv": b"".join(part) for index, part in enumerate(deal(cancer.validation, 2))},
        content_type=CONTENT_TYPE,
        distribution="ShardedByS3Key",
    )
    hyperparameters = ENDLESS | {"early_stopping_rounds": "3", "eval_metric": "logloss,f1"}

    for _ in range(2):  # C-040: the port of the job before is free again
        job.lay_out(2, hyperparameters)
        finished = job.run()

        assert finished.exit_codes == [0, 0], finished.output
        manifest = json.loads((job.tree(0).model_dir / "byoa-manifest.json").read_text())
        assert len(finished.metric_lines()[0]) == manifest["model"]["best_iteration"] + 1 + 3


def test_all_hosts_resume_from_the_checkpoint_of_the_first(job: Job) -> None:
    """Hosts without checkpoints resume too; the model is that of the unbroken run of more rounds or
    of fewer, which repeats none and keeps the longer job's checkpoint (C-032, C-105).
    """
    random = CLASSIFIER | {"subsample": "0.5", "colsample_bynode": "0.5"}
    random |= {"eval_metric": "logloss,accuracy"}

    def run(n_rounds: int) -> tuple[bytes, Finished]:
        for tree in job.trees.values():
            tree.empty_outputs()
            tree.write_hyperparameters(random | {"num_round": str(n_rounds)})
        finished = job.run()
        assert finished.exit_codes == [0, 0], finished.output
        assert list(job.tree(1).checkpoints_dir.iterdir()) == []
        return (job.tree(0).model_dir / "xgboost-model").read_bytes(), finished

    job.lay_out(2, random)
    unbroken, _ = run(9)
    cut, cutting = run(4)
    assert (job.tree(0).checkpoints_dir / "checkpoint-00000009").exists()
    job.lay_out(2, random)
    shorter, _ = run(4)
    resumed, resuming = run(9)

    assert resumed == unbroken
    lines = [line.partition("]")[0] for line in resuming.metric_lines()[0]]
    assert lines == [f"[{n}" for n in range(4, 9)]
    assert cut == shorter
    assert cutting.metric_lines()[0] == []
    assert "checkpoint_left_alone" in cutting.output


@pytest.mark.docker_cases(0)
def test_checkpoint_of_other_data_on_any_host_is_ignored(job: Job, cancer: TabularDataset) -> None:
    """A job does not go on from a model of other records, on whichever host they were (C-032)."""
    job.lay_out(2)
    assert job.run().exit_codes == [0, 0]
    for tree in job.trees.values():
        tree.empty_outputs()
        tree.write_hyperparameters(CLASSIFIER | {"num_round": "7"})
    first, *rest = cancer.train.splitlines(keepends=True)
    other = {"part-1.csv": b"".join([*rest[::2], first])}
    job.tree(1).write_channel(
        "train", other, content_type=CONTENT_TYPE, distribution="ShardedByS3Key"
    )

    finished = job.run()

    assert finished.exit_codes == [0, 0], finished.output
    assert len(finished.metric_lines()[0]) == 7
    assert "another job made it: channel train differ" in finished.output


@pytest.mark.docker_cases(1)
@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"x.csv": b"1,2\n0,oops\n"}, "file 'x.csv': line 2, column 2"),
        ({"x.csv": b"1,2\n0,3\n"}, "has 1 feature columns on host"),
        ({"x.csv": b"7" + b",1" * 30 + b"\n"}, "label 7 does not fit"),
    ],
)
def test_bad_data_on_one_host_fail_the_job_on_all(
    job: Job, files: dict[str, bytes], reason: str
) -> None:
    """Every failure file names the host and what is wrong there (C-027, C-028)."""
    job.lay_out(2)
    job.tree(1).write_channel("train", files, content_type=CONTENT_TYPE)

    finished = job.run()

    assert finished.exit_codes == [1, 1], finished.output
    assert len(set(finished.reasons)) == 1
    assert reason in str(finished.reasons[0])
    assert repr(list(job.trees)[1]) in str(finished.reasons[0])
    assert finished.model_files == [()] * 2
    assert max(run.duration_seconds for run in finished.runs.values()) < 30


@pytest.mark.docker_cases(0)
def test_hosts_with_files_of_different_formats_fail_the_job(
    job: Job, cancer: TabularDataset
) -> None:
    """Without a ContentType each host recognises its own files: all failure files name hosts and
    formats (C-027).
    """
    files = {"part-0": cancer.train, "part-1": as_libsvm(cancer.train.splitlines()[0])}
    job.ml.write_channel("train", files, content_type=None, distribution="ShardedByS3Key")
    job.lay_out(2)

    finished = job.run()

    assert finished.exit_codes == [1, 1], finished.output
    assert len(set(finished.reasons)) == 1
    first, second = map(repr, job.trees)
    expected = f"holds text/csv on host {first} and text/libsvm on host {second}; give all hosts"
    assert expected in str(finished.reasons[0])
    assert finished.model_files == [()] * 2


@pytest.mark.docker_cases(0)
def test_job_without_any_records_fails_on_all_hosts(job: Job) -> None:
    """A host without records is fine; none with any is not (C-025)."""
    write_train(job, [b""])
    job.lay_out(2)

    finished = job.run()

    assert finished.exit_codes == [1, 1]
    assert "channel 'train' holds no records on any of 2 hosts" in str(finished.reasons[0])


@pytest.mark.parametrize("killed", [0, 1])
def test_killed_host_ends_the_job_with_its_name(job: Job, killed: int) -> None:
    """No host waits for the killed one in the middle of a round (C-027)."""
    job.lay_out(3, ENDLESS)
    name = list(job.trees)[killed]

    with job.start() as running:
        next(iter(running.programs.values())).wait_for_output("[3]\t", PATIENCE_SECONDS)
        running.programs.pop(name).close()  # kills it, and what it started
        killed_at = time.monotonic()
        codes = [program.wait(PATIENCE_SECONDS) for program in running.programs.values()]

    assert codes == [1, 1]
    assert time.monotonic() - killed_at < PATIENCE_SECONDS
    for host, tree in job.trees.items():
        if host != name:
            assert f"host '{name}' is gone" in str(tree.failure_reason())
        assert tree.model_files() == ()


@pytest.mark.slow
@pytest.mark.docker_cases(0)
def test_frozen_host_ends_the_job_with_its_name(job: Job) -> None:
    """A host that neither ends nor works is not waited for, either (C-027)."""
    job.lay_out(2, ENDLESS)
    name = list(job.trees)[1]

    with job.start() as running:
        first, second = running.programs.values()
        first.wait_for_output("[3]\t", PATIENCE_SECONDS)
        for process_id in second.process_ids():
            os.kill(process_id, signal.SIGSTOP)
        assert first.wait(PATIENCE_SECONDS) == 1

    assert f"host '{name}' is gone: no heartbeat for 30 s" in str(job.tree(0).failure_reason())


def test_sigterm_leaves_the_model_of_the_finished_rounds(job: Job, features: np.ndarray) -> None:
    """Hosts of a spot job are stopped at once; they stop in the same round (C-029)."""
    job.lay_out(2, ENDLESS)

    with job.start() as running:
        first, second = running.programs.values()
        first.wait_for_output("[3]\t", PATIENCE_SECONDS)
        first.terminate()
        time.sleep(0.5)  # not quite at once
        second.terminate()
        codes = [first.wait(PATIENCE_SECONDS), second.wait(PATIENCE_SECONDS)]

    assert codes == [143, 143], first.output() + second.output()
    assert [tree.model_files() for tree in job.trees.values()] == [
        ("byoa-manifest.json", "xgboost-model"),
        (),
    ]
    assert np.isfinite(booster_of(job.tree(0)).predict(xgboost.DMatrix(features))).all()
    assert job.tree(0).failure_reason() is None


def test_missing_host_is_named(job: Job) -> None:
    """Hosts are waited for, but not for ever (C-023)."""
    job.lay_out(2)
    missing = list(job.trees)[1]
    del job.trees[missing]

    finished = job.run(BYOA_HOSTS_TIMEOUT="3")

    assert finished.exit_codes == [1]
    assert f"'{missing}'" in str(finished.reasons[0])


@pytest.mark.docker_cases(0)
def test_what_one_host_alone_can_do_is_refused(job: Job) -> None:
    """Fails before any data is read, with the alternative (C-014)."""
    job.lay_out(2, CLASSIFIER | {"tree_method": "exact"})

    finished = job.run()

    assert finished.exit_codes == [1, 1]
    assert "'exact' does not work on 2 hosts; use hist or approx" in str(finished.reasons[0])
