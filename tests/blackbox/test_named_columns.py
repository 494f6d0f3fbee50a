"""Parquet columns by name: on several hosts, and from a job to its server (C-103)."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import xgboost

from local_test.backends import Backend
from local_test.invoke import invoke
from local_test.ml_tree import MlTree
from tests.blackbox.test_distributed import Finished, Job

PARQUET = "application/x-parquet"
HEADER = ["bought", "age", "income"]
ROWS = np.random.default_rng(0).random((200, 2))
LABELLED = np.column_stack([ROWS[:, 0] + 3 * ROWS[:, 1] > 2, ROWS])


def as_table(rows: np.ndarray, names: Sequence[str], called: Sequence[str] | None = None) -> bytes:
    """Columns of `HEADER` in the order of `names`, called so, or as `called` says."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    columns = [pa.array(rows[:, HEADER.index(name)]) for name in names]
    pq.write_table(pa.Table.from_arrays(columns, list(called or names)), file)
    return file.getvalue()


def train_on_hosts(
    backend: Backend, root: Path, parts: Sequence[bytes], objective: str = "binary:logistic"
) -> tuple[Job, Finished]:
    job = Job(backend, root)
    files = {f"part-{index}": part for index, part in enumerate(parts)}
    job.ml.write_channel("train", files, content_type=PARQUET, distribution="ShardedByS3Key")
    job.lay_out(len(parts), {"objective": objective, "num_round": "5", "nthread": "1"})
    return job, job.run()


@pytest.mark.docker_cases(0)
def test_hosts_with_columns_in_other_orders_make_one_model(
    backend: Backend, tmp_path: Path
) -> None:
    """Hosts find the label by name in files of different column order."""
    models = []
    for number, second in enumerate((HEADER, HEADER[::-1])):
        parts = [as_table(LABELLED[:100], HEADER), as_table(LABELLED[100:], second)]
        job, finished = train_on_hosts(backend, tmp_path / str(number), parts)
        assert finished.exit_codes == [0, 0], finished.output
        models.append((job.tree(0).model_dir / "xgboost-model").read_bytes())

    assert models[0] == models[1]
    assert xgboost.Booster(model_file=bytearray(models[0])).feature_names == ["age", "income"]


@pytest.mark.docker_cases(0)
def test_hosts_with_other_names_fail_with_the_difference(backend: Backend, tmp_path: Path) -> None:
    """The error lists the names of both hosts."""
    other = as_table(LABELLED[100:], HEADER, ["bought", "age", "salary"])

    job, finished = train_on_hosts(backend, tmp_path, [as_table(LABELLED[:100], HEADER), other])

    first, second = job.trees
    assert finished.exit_codes == [1, 1], finished.output
    for reason in map(str, finished.reasons):
        assert f"host {second!r}: channel 'train', file 'part-1': the columns are not" in reason
        assert f"of host {first!r}: missing: 'income'; unknown: 'salary'" in reason


@pytest.mark.canary
def test_requests_are_answered_by_name(backend: Backend, tmp_path: Path) -> None:
    """Matches request columns by the names of training, and lists a difference."""
    ml = MlTree(tmp_path / "ml").create()
    ml.write_hyperparameters({"objective": "binary:logistic", "num_round": "5"})
    ml.write_channel("train", {"part-0": as_table(LABELLED, HEADER)})
    run = backend.run_training(ml, timeout_seconds=120)
    assert run.exit_code == 0, run.output
    manifest = json.loads((ml.model_dir / "byoa-manifest.json").read_text())
    assert manifest["model"]["feature_names"] == ["age", "income"]
    booster = xgboost.Booster(model_file=bytearray((ml.model_dir / "xgboost-model").read_bytes()))
    matrix = xgboost.DMatrix(ROWS, feature_names=["age", "income"])

    with backend.start_server(ml) as server:

        def post(body: bytes, content_type: str = PARQUET) -> tuple[int, str]:
            response = invoke(server.url, body, content_type=content_type, accept="text/csv")
            return response.status, response.text

        for names, content_type in (
            (["age", "income"], PARQUET),
            (["income", "age"], PARQUET),
            (HEADER[::-1], f"{PARQUET};label_size=1"),
        ):
            status, text = post(as_table(LABELLED, names), content_type)
            assert status == 200, text
            np.testing.assert_allclose(
                np.array(text.split(), dtype=np.float32), booster.predict(matrix), atol=1e-6
            )
        for body, problem in (
            (as_table(LABELLED, HEADER), "unknown: 'bought'; leave it out"),
            (as_table(LABELLED, HEADER[1:], ["age", "salary"]), "missing: 'income'; unknown"),
            (as_table(LABELLED, HEADER[1:], ["age", "age"]), "two columns are called 'age'"),
        ):
            status, text = post(body)
            assert (status, problem in text) == (400, True), text
