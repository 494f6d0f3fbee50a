"""Thousands of small models in one worker: all of them in memory, then half of them."""

import bisect
import itertools
import json
import random
import statistics
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from benchmarks.harness.running import ServerError
from benchmarks.multi_model.api import Api
from benchmarks.multi_model.fleet_results import Crowded, Latency, Resident, Traffic
from benchmarks.multi_model.models import Models
from benchmarks.multi_model.starting import MultiModel, started

_AMPLE_MEBIBYTES = 4096
_ZIPF_EXPONENT = 1.1
_STRETCHES = 20
_PAGES = 200
_MOST_EVICTED = 2000
_AT_ONCE = 50
_ONE_WORKER = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
_SEED = 20240229


def measure_resident(models: Models, engine: str) -> Resident:
    """Load every model for the first time and invoke it; then weigh the server, and list them.

    Raises:
        ServerError: an answer is wrong, or not all are resident.
    """
    variables = {**_ONE_WORKER, "BYOA_MODEL_MEMORY_MB": str(_AMPLE_MEBIBYTES)}
    with started(models.root, engine, **variables) as server:
        before = server.pss_bytes()
        loads = _load_all(server, models)
        for name in models.names:
            server.api.invoke(models, name)
        found = server.api.metrics().get("byoa_resident_models", len(models.names))
        if found != len(models.names):
            raise ServerError(f"{found:g} of {len(models.names)} models are resident")
        pss = server.pss_bytes()
        token = _token_of_the_middle(server, len(models.names))
        pages = [server.api.page(token).seconds for _ in range(_PAGES)]
    file_bytes = models.directory(models.names[0]).joinpath("xgboost-model").stat().st_size
    return Resident(
        len(models.names), file_bytes, before, pss, Latency.of(loads), Latency.of(pages)
    )


def measure_crowded(models: Models, *, invocations: int) -> Crowded:
    """Give the server memory for half of the models, and send traffic by Zipf's law.

    Only the engine that unloads by itself can be measured.
    """
    names = models.names
    budget = _mebibytes_for(models, len(names) // 2)
    with started(
        models.root, "gunicorn", **_ONE_WORKER, BYOA_MODEL_MEMORY_MB=str(budget)
    ) as server:
        _load_all(server, models)
        stretches = list(_traffic(server, models, invocations))
        for name in names:  # in this order what is resident is the last half
            server.api.invoke(models, name)
        n_evicted = min(len(names) // 4, _MOST_EVICTED)
        evicted = _evicted(server, models, names[:n_evicted])
        loads = _at_once(server, models, names[int(0.4 * len(names))])
    return Crowded(len(names), budget, stretches, evicted, loads)


def zipf(names: Sequence[str], count: int) -> Iterator[str]:
    """Draw names so that the one of rank n comes n^-1.1 times as often as the first.

    Ranks are dealt out at random, the same in every run.
    """
    generator = random.Random(_SEED)  # noqa: S311 -- traffic, not a secret
    ranked = generator.sample(list(names), len(names))
    weights = [rank**-_ZIPF_EXPONENT for rank in range(1, len(ranked) + 1)]
    totals = list(itertools.accumulate(weights))
    for _ in range(count):
        yield ranked[bisect.bisect(totals, generator.random() * totals[-1], hi=len(ranked) - 1)]


def _load_all(server: MultiModel, models: Models) -> list[float]:
    return [server.api.load_well(name, models.directory(name)).seconds for name in models.names]


def _token_of_the_middle(server: MultiModel, count: int) -> str:
    """Turn pages up to the middle of the list; empty where it has one page."""
    token = ""
    for _ in range(count // 200):
        page = json.loads(server.api.page(token).body)
        token = page.get("nextPageToken") or token
    return token


def _mebibytes_for(models: Models, count: int) -> int:
    """Memory of ``count`` models in MiB, extrapolated from the server's measurement of some."""
    some = models.names[:: max(1, len(models.names) // 50)]
    with started(models.root, "gunicorn", **_ONE_WORKER) as server:
        for name in some:
            server.api.load_well(name, models.directory(name))
        sizes = [int(server.api.describe(name)["memoryBytes"]) for name in some]
    return max(1, round(statistics.mean(sizes) * count / 2**20))


def _traffic(server: MultiModel, models: Models, invocations: int) -> Iterator[Traffic]:
    drawn = zipf(models.names, invocations)
    size = max(2, invocations // _STRETCHES)
    while stretch := list(itertools.islice(drawn, size)):
        before = server.api.metrics()
        times = [server.api.invoke(models, name).seconds for name in stretch]
        after = server.api.metrics()
        hits, lookups = (
            after[f"ModelCacheHit_{what}"] - before[f"ModelCacheHit_{what}"]
            for what in ("sum", "count")
        )
        resident = int(after["byoa_resident_models"])
        yield Traffic(len(stretch), hits / lookups, resident, Latency.of(times))


def _evicted(server: MultiModel, models: Models, names: Sequence[str]) -> Latency:
    """Invoke models that are registered but not resident, each once."""
    before = server.api.metrics()["ModelCacheHit_sum"]
    times = [server.api.invoke(models, name).seconds for name in names]
    hits = server.api.metrics()["ModelCacheHit_sum"] - before
    if hits:
        raise ServerError(f"{hits:g} of {len(names)} models were resident that should not be")
    return Latency.of(times)


def _at_once(server: MultiModel, models: Models, name: str) -> int:
    """Invoke a model that is not resident 50 times at once, and count how often it is loaded."""
    start = threading.Barrier(_AT_ONCE)

    def invoke(_: int) -> None:
        with closing(Api(server.running.url)) as api:
            start.wait()
            api.invoke(models, name)

    before = server.api.metrics()["byoa_model_loads_total"]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(invoke, range(_AT_ONCE)))
    return int(server.api.metrics()["byoa_model_loads_total"] - before)
