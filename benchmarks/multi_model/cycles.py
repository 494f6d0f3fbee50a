"""Growth of the server over many cycles of load, invocation and unload of one model."""

from benchmarks.multi_model.fleet_results import Cycles
from benchmarks.multi_model.models import Models
from benchmarks.multi_model.starting import started
from benchmarks.serving.soak import slope

SETTLING_CYCLES = 50  # pools, caches and the allocator fill
_ONE_WORKER = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}


def measure(models: Models, engine: str, *, count: int) -> Cycles:
    """Run the cycles and measure the memory of the server after each."""
    (name,) = models.names
    directory = models.directory(name)
    rss = []
    with started(models.root, engine, **_ONE_WORKER) as server:
        for _ in range(count):
            server.api.load_well(name, directory)
            server.api.invoke(models, name)
            server.api.unload(name)
            rss.append(server.running.footprint().rss)
    return Cycles((directory / "xgboost-model").stat().st_size, rss)


def growth_per_cycle(cycles: Cycles) -> float | None:
    """Bytes a cycle after the first ones; None where there are too few to say."""
    settled = list(enumerate(cycles.rss))[SETTLING_CYCLES:]
    return slope(settled) if len(settled) >= SETTLING_CYCLES else None
