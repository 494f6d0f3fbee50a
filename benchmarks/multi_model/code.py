"""Models with code: memory and loads of many of them, and the CPU time of their process border.

The cost of the border is that of the model of `make bench` with a script that changes nothing,
beside the same model without a script, in the same server, asked in turn: both decode, predict and
encode alike.
"""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.harness.model_files import Questions, small_model
from benchmarks.harness.running import Running
from benchmarks.multi_model.fleet_results import CodeModels, Latency
from benchmarks.multi_model.models import CSV
from benchmarks.multi_model.starting import started
from benchmarks.multi_model.warm import cpu_us
from benchmarks.serving import measuring
from benchmarks.serving.results import Point

LARGE_BYTES = 2**20
_ONE_WORKER = {
    "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
    "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": CSV.content_type,
}
_OF_NUMPY = """\
import numpy as np

def model_fn(model_dir):
    return np.arange(10.0)

def transform_fn(model, input_data, content_type, accept):
    return f"{model.sum()}\\n", "text/csv"
"""
_CHANGES_NOTHING = """\
def pre_model_fn(model_dir):
    pass
"""


def measure(
    models_dir: Path, engine: str, *, count: int, repetitions: int, seconds: int
) -> CodeModels:
    """Measure both.

    Raises:
        ServerError, LoadError: a server does not answer as it should.
    """
    pss_each, loads = _many(engine, count)
    small, large = _border(models_dir, engine, repetitions, seconds)
    return CodeModels(count, pss_each, loads, *small, *large)


def _many(engine: str, count: int) -> tuple[float, Latency]:
    """Load so many; returns the PSS of each, and the times of `POST /models`."""
    with tempfile.TemporaryDirectory(prefix="bench-") as text:
        root = Path(text)
        for number in range(count):
            code_dir = root / "models" / f"code-{number}" / "model" / "code"
            code_dir.mkdir(parents=True)
            (code_dir / "inference.py").write_text(_OF_NUMPY)
        with started(root, engine, **_ONE_WORKER) as server:
            before, seconds = server.pss_bytes(), []
            for number in range(count):
                name = f"code-{number}"
                directory = root / "models" / name / "model"
                seconds.append(server.api.load_well(name, directory).seconds)
                server.api.ask("POST", f"/models/{name}/invoke", b"1\n", CSV.content_type)
            return (server.pss_bytes() - before) / count, Latency.of(seconds)


def _border(
    models_dir: Path, engine: str, repetitions: int, seconds: int
) -> list[tuple[list[float], list[float]]]:
    """Return CPU µs per request without and with code: of one record, and of a body of 1 MB."""
    model_dir = small_model(models_dir)
    questions = Questions(model_dir, (1,))
    points = [Point(1, 8), Point(_large_rows(questions), 1)]
    found: list[tuple[list[float], list[float]]] = [([], []), ([], [])]
    with tempfile.TemporaryDirectory(prefix="bench-") as text:
        root = Path(text)
        for name in ("plain", "code"):
            shutil.copytree(model_dir / "model", root / "models" / name / "model")
        code_dir = root / "models" / "code" / "model" / "code"
        code_dir.mkdir()
        (code_dir / "inference.py").write_text(_CHANGES_NOTHING)
        with started(root, engine, **_ONE_WORKER) as server:
            both = []
            for name in ("plain", "code"):
                server.api.load_well(name, root / "models" / name / "model")
                asked = replace(server.running.server, route=f"/models/{name}/invoke")
                running: Running = replace(server.running, server=asked)
                running.check(questions)
                measuring.warm_up(running, questions)
                both.append(running)
            for repetition in range(repetitions):
                for place, running in enumerate(both):
                    samples = measuring.measure(
                        running, questions, points, repetition=repetition, seconds=seconds
                    )
                    for costs, sample in zip(found, samples, strict=True):
                        costs[place].append(cpu_us(sample))
    return found


def _large_rows(questions: Questions) -> int:
    """Write a body of 1 MB of the same rows again and again; returns the number of its rows."""
    lines = questions.body(CSV, 1000).splitlines(keepends=True)
    n_rows = LARGE_BYTES * len(lines) // sum(map(len, lines))
    file = questions.directory / f"{CSV.name}-{n_rows}.body"
    if not file.exists():
        file.write_bytes(b"".join(lines[index % len(lines)] for index in range(n_rows)))
    return n_rows
