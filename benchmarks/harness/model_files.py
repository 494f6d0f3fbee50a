"""The models and requests on disk: made once for each version of XGBoost, then kept."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.harness.environments import SetupError
from benchmarks.harness.formats import Format, Rows
from benchmarks.harness.servers import ROOT


@dataclass(frozen=True)
class Questions:
    """Requests with the first rows of one table, and XGBoost's own predictions.

    Args:
        directory: Where the small model lies; bodies are written below it for ``wrk``.
    """

    directory: Path
    row_counts: tuple[int, ...]

    @cached_property
    def _content(self) -> Any:
        return json.loads((self.directory / "rows.json").read_text())

    def rows(self, n_rows: int) -> Rows:
        rows: Rows = self._content["rows"][:n_rows]
        return rows

    def expected(self, n_rows: int) -> Sequence[float]:
        expected: Sequence[float] = self._content["expected"][:n_rows]
        return expected

    def body(self, format_: Format, n_rows: int) -> bytes:
        return self.body_file(format_, n_rows).read_bytes()

    def body_file(self, format_: Format, n_rows: int) -> Path:
        """Return the body of a request as a file, written when it is first asked for."""
        file = self.directory / f"{format_.name}-{n_rows}.body"
        if not file.exists():
            file.write_bytes(format_.encode(self.rows(n_rows)))
        return file


def small_model(models_dir: Path) -> Path:
    """Return the directory of the model that every server loads; trained when it is missing.

    Raises:
        SetupError: it cannot be made.
    """
    return _made(models_dir, "small", "small")


def big_model(models_dir: Path) -> Path:
    """Return the directory of the 500 MB model, as for the small one; it takes minutes."""
    return _made(models_dir, "big", "big", "resident")


def _made(models_dir: Path, name: str, *steps: str) -> Path:
    """Make all of it or none: an interrupted run leaves nothing that a later one would take."""
    directory = models_dir / f"{name}-xgboost-{metadata.version('xgboost-cpu')}"
    if not directory.exists():
        unfinished = directory.with_name(f"{directory.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        for step in steps:
            _make(step, unfinished)
        unfinished.rename(directory)
    return directory


def _make(step: str, directory: Path) -> None:
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "benchmarks.harness.make_model",
        step,
        str(directory),
    ]
    try:
        subprocess.run(command, cwd=ROOT, check=True)
    except subprocess.CalledProcessError as error:
        raise SetupError(f"the {step} model could not be made; see above") from error
