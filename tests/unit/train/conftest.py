"""A tree as the platform lays it out, with real records."""

import io
import json
import string
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from container.codecs.recordio.record_message import record_class


class Tree:
    """Plays the platform: writes configuration and channels, reads what the job left."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "input" / "config").mkdir(parents=True)

    def configure(self, name: str, content: object) -> None:
        (self.root / "input" / "config" / name).write_text(json.dumps(content))

    def hyperparameters(self, **values: str) -> None:
        self.configure("hyperparameters.json", {"num_round": "3"} | values)

    def channel(self, name: str, files: Mapping[str, bytes]) -> Path:
        directory = self.root / "input" / "data" / name
        directory.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            (directory / file).write_bytes(content)
        return directory

    @property
    def environ(self) -> dict[str, str]:
        return {"SAGEMAKER_BASE_DIR": str(self.root)}

    @property
    def failure(self) -> str:
        file = self.root / "output" / "failure"
        return file.read_text() if file.exists() else ""

    @property
    def model_files(self) -> list[str]:
        directory = self.root / "model"
        return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def as_csv(rows: np.ndarray) -> bytes:
    """Records as training CSV."""
    return "".join(",".join(f"{cell:.9g}" for cell in row) + "\n" for row in rows).encode()


def as_libsvm(rows: np.ndarray, first: int = 0) -> bytes:
    """Records as libsvm, every cell written out; columns from `first`."""
    cells = (" ".join(f"{i}:{cell:.9g}" for i, cell in enumerate(row[1:], first)) for row in rows)
    return "".join(f"{row[0]:g} {text}\n" for row, text in zip(rows, cells, strict=True)).encode()


@pytest.fixture(scope="session")
def records() -> np.ndarray:
    """The breast cancer set, label first, shuffled; float64 [569, 31]."""
    data = load_breast_cancer()
    rows = np.column_stack([data.target, data.data])
    np.random.default_rng(0).shuffle(rows)
    return rows


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "ml")


@pytest.fixture
def cancer(tree: Tree, records: np.ndarray) -> Tree:
    """A job that is ready to run: two channels and a classifier."""
    tree.hyperparameters(objective="binary:logistic", eval_metric="logloss")
    tree.channel("train", {"part-0.csv": as_csv(records[:400])})
    tree.channel("validation", {"part-0.csv": as_csv(records[400:])})
    return tree


def as_recordio(rows: Sequence[Sequence[float]], *, is_sparse: bool = False) -> bytes:
    """Records as RecordIO frames with protobuf records, label first; sparse ones leave out 0."""
    frames = []
    for label, *features in rows:
        record = record_class()()
        tensor = record.features["values"].float32_tensor
        there = [column for column, cell in enumerate(features) if cell or not is_sparse]
        tensor.values.extend(features[column] for column in there)
        if is_sparse:
            tensor.keys.extend(there)
            tensor.shape.append(len(features))
        record.label["values"].float32_tensor.values.append(label)
        payload = record.SerializeToString()
        frames.append(struct.pack("<II", 0xCED7230A, len(payload)) + payload)
        frames.append(bytes(-len(payload) % 4))
    return b"".join(frames)


def as_parquet(rows: np.ndarray, names: str | None = None) -> bytes:
    """Records as a Parquet file, label first; columns have names of one letter."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    columns = list(np.asarray(rows).T)
    table = pa.table(columns, list(names or string.ascii_letters[: len(columns)]))
    pq.write_table(table, file, row_group_size=100)
    return file.getvalue()
