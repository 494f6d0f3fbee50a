"""Cost of an invocation of a resident model, beside one of the single-model server.

Both servers run with two workers and one model; wrk asks them in turn, so that what else happens on
the machine meets both.
"""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.harness.model_files import Questions, small_model
from benchmarks.harness.running import ServerError, running
from benchmarks.harness.servers import all_servers
from benchmarks.multi_model.fleet_results import Warm
from benchmarks.multi_model.starting import ENVIRONMENT_DIR, started
from benchmarks.serving import measuring
from benchmarks.serving.results import Point, Sample

POINT = Point(n_rows=1, connections=8)


def measure(models_dir: Path, engine: str, *, repetitions: int, seconds: int) -> Warm:
    """Measure both; the model is that of `make bench`, 100 trees of depth 6.

    Raises:
        ServerError, LoadError: a server does not answer as it should.
    """
    model_dir = small_model(models_dir)
    questions = Questions(model_dir, (POINT.n_rows,))
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        warm_dir = root / "models" / "warm" / "model"
        warm_dir.parent.mkdir(parents=True)
        shutil.copytree(model_dir / "model", warm_dir)
        single = stack.enter_context(
            running(
                all_servers()["ours"],
                questions,
                environment_dir=ENVIRONMENT_DIR,
                model_dir=model_dir,
            )
        )
        multi = stack.enter_context(started(root, engine, route="/models/warm/invoke"))
        multi.api.load_well("warm", warm_dir)
        both = (single, multi.running)
        for server in both:
            server.check(questions)
            measuring.warm_up(server, questions)
        costs: tuple[list[float], list[float]] = ([], [])
        for repetition in range(repetitions):
            for server, found in zip(both, costs, strict=True):
                points = measuring.measure(
                    server, questions, [POINT], repetition=repetition, seconds=seconds
                )
                found += map(cpu_us, points)
        for server in both:
            server.check(questions)
    return Warm(*costs)


def cpu_us(sample: Sample) -> float:
    """The cost of an invocation, if every one was answered well."""
    if sample.errors:
        raise ServerError(f"{sample.server}: {sample.errors:,} requests failed")
    return sample.cpu_us
