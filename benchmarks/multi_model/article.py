"""The experiment of AWS's article on multi-model endpoints, with this program as the platform.

Copies of one model under other names: the first half is invoked in order, then again, then all of
them. The platform loads a model when it is invoked for the first time, and unloads the one that was
used least recently when the container has no room (507). In the article 121 of 200 fitted; the
cache hits were 0 in the first pass, 1 in the second, and 1 in the first half of the third.

The server is told to refuse (``BYOA_ON_FULL=refuse``), and is given the memory that the wanted
number of models takes by its own measurement. multi-model-server measures nothing and refuses
nothing, so with that engine all models fit.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from benchmarks.harness.running import ServerError
from benchmarks.multi_model.api import Api
from benchmarks.multi_model.fleet_results import Article, Step
from benchmarks.multi_model.models import Models
from benchmarks.multi_model.starting import MultiModel, started

FITTING_SHARE = 121 / 200
_NO_ROOM = 507
_ONE_WORKER = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}


class Platform:
    """Loads and unloads models as invocations come, as SageMaker does for an endpoint."""

    def __init__(self, api: Api, models: Models) -> None:
        self._api = api
        self._models = models
        self._loaded: OrderedDict[str, None] = OrderedDict()  # the least recently used one first

    @property
    def n_loaded(self) -> int:
        return len(self._loaded)

    def invoke(self, name: str) -> bool:
        """Invoke a model and say whether it was loaded already."""
        is_hit = name in self._loaded
        if not is_hit:
            self._load(name)
        self._loaded[name] = None
        self._loaded.move_to_end(name)
        self._api.invoke(self._models, name)
        return is_hit

    def _load(self, name: str) -> None:
        directory = self._models.directory(name)
        answer = self._api.load(name, directory)
        while answer.status == _NO_ROOM and self._loaded:
            oldest, _ = self._loaded.popitem(last=False)
            self._api.unload(oldest)
            answer = self._api.load(name, directory)
        if answer.status != 200:
            raise ServerError(f"load {name}: status {answer.status}: {answer.body[:300]!r}")


def measure(models: Models, engine: str) -> Article:
    """Run the experiment.

    Raises:
        ServerError: an answer is wrong.
    """
    names = models.names
    base, model_bytes = _weigh(models, engine)
    budget_mebibytes = max(1, round(model_bytes * FITTING_SHARE * len(names) / 2**20))
    variables = {
        **_ONE_WORKER,
        "BYOA_MODEL_MEMORY_MB": str(budget_mebibytes),
        "BYOA_ON_FULL": "refuse",
    }
    with started(models.root, engine, **variables) as server:
        platform = Platform(server.api, models)
        steps = list(_steps(server, platform, names))
    most_loaded = max(step.loaded for step in steps)
    memory = base + budget_mebibytes * 2**20
    return Article(len(names), model_bytes, memory, most_loaded, steps)


def _steps(server: MultiModel, platform: Platform, names: Sequence[str]) -> Iterator[Step]:
    half = range(len(names) // 2)
    for index in (*half, *half, *range(len(names))):
        is_hit = platform.invoke(names[index])
        yield Step(index, is_hit, platform.n_loaded, server.pss_bytes())


def _weigh(models: Models, engine: str) -> tuple[int, int]:
    """Memory of the server without a copy, its libraries loaded, and of one copy; bytes.

    The latter is the server's own measurement, or its growth where it measures nothing.
    """
    name = models.names[0]
    with started(models.root, engine, **_ONE_WORKER) as server:
        before = server.pss_bytes()
        server.api.load_well(name, models.directory(name))
        server.api.invoke(models, name)
        after = server.pss_bytes()
        model_bytes = int(server.api.describe(name).get("memoryBytes") or after - before)
        return after - model_bytes, model_bytes
