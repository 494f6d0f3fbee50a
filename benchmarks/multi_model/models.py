"""The models on disk, made once for each version of XGBoost and each number of them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.harness.environments import SetupError
from benchmarks.harness.formats import FORMATS
from benchmarks.harness.servers import ROOT

CSV = FORMATS["csv"]


_OWN_MODULE = """\
import numpy as np

TABLE = np.random.default_rng(1).normal(size=500_000)
WORDS = [str(number) for number in range(100_000)]

def text(values):
    return "".join(f"{float(value)!r}\\n" for value in np.ravel(values))
"""
_SCRIPT = """\
import own_format

def output_fn(prediction, accept):
    return own_format.text(prediction), "text/csv"
"""


@dataclass(frozen=True)
class Models:
    """Directories below ``root/models``, and the prediction of each model for one row."""

    root: Path

    @cached_property
    def _content(self) -> Any:
        return json.loads((self.root / "expected.json").read_text())

    @cached_property
    def expected(self) -> Mapping[str, float]:
        """XGBoost's own predictions, by name."""
        expected: Mapping[str, float] = self._content["expected"]
        return expected

    @cached_property
    def names(self) -> Sequence[str]:
        return list(self.expected)

    @cached_property
    def body(self) -> bytes:
        """The row as the body of a request."""
        return CSV.encode([self._content["row"]])

    def directory(self, name: str) -> Path:
        return self.root / "models" / name / "model"

    def is_right(self, name: str, answer: bytes) -> bool:
        """Return True if the answer is XGBoost's own prediction."""
        return CSV.is_right(answer, [self.expected[name]])


def small_models(models_dir: Path, count: int) -> Models:
    """Return models of about 31 kB, no two alike; train the missing ones.

    Raises:
        SetupError: they cannot be made.
    """
    return _made(models_dir, f"small-{count}", "small", str(count))


def medium_model(models_dir: Path) -> Models:
    """Return one model of about 25 MB, as for the small ones."""
    return _made(models_dir, "medium", "medium")


def copies(models_dir: Path, count: int) -> Models:
    """Return one model of half a megabyte under several names, as for the small ones."""
    original = _made(models_dir, "article", "article")
    root = models_dir / f"copies-{count}-of-{original.root.name}"
    if not root.exists():
        unfinished = root.with_name(f"{root.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        source = original.names[0]
        names = [f"copy-{number:03}" for number in range(1, count + 1)]
        for name in names:
            shutil.copytree(original.directory(source), Models(unfinished).directory(name))
        content = json.loads((original.root / "expected.json").read_text())
        content["expected"] = dict.fromkeys(names, original.expected[source])
        (unfinished / "expected.json").write_text(json.dumps(content))
        unfinished.rename(root)
    return Models(root)


def with_code(models_dir: Path) -> Models:
    """Return one model of half a megabyte whose own code imports a module and holds 10 MB."""
    original = _made(models_dir, "article", "article")
    root = models_dir / f"code-of-{original.root.name}"
    if not root.exists():
        unfinished = root.with_name(f"{root.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(original.root, unfinished)
        (name,) = original.names
        code_dir = Models(unfinished).directory(name) / "code"
        code_dir.mkdir()
        (code_dir / "own_format.py").write_text(_OWN_MODULE)
        (code_dir / "inference.py").write_text(_SCRIPT)
        unfinished.rename(root)
    return Models(root)


def _made(models_dir: Path, name: str, *arguments: str) -> Models:
    root = models_dir / f"{name}-xgboost-{metadata.version('xgboost-cpu')}"
    if not root.exists():
        print(f"bench: making {name} (minutes for thousands) ...", flush=True)
        unfinished = root.with_name(f"{root.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        module = "benchmarks.multi_model.make_models"
        command = [sys.executable, "-W", "error", "-m", module, *arguments, str(unfinished)]
        try:
            subprocess.run(command, cwd=ROOT, check=True)
        except subprocess.CalledProcessError as error:
            raise SetupError(f"the models '{name}' could not be made; see above") from error
        unfinished.rename(root)
    return Models(root)
