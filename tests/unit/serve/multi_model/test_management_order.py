"""Concurrent calls on one model name in several workers.

Barriers stand where a call has begun and not ended; nothing waits for a time.
"""

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from container.errors import (
    ContainerError,
    ModelAlreadyLoadedError,
    ModelLoadError,
    ModelNotFoundError,
    OutOfMemoryError,
)
from container.settings import Settings
from serve.multi_model.admission.admission_check import Admitted
from serve.multi_model.catalogue import Catalogue
from serve.multi_model.model_metrics import ModelMetrics
from serve.multi_model.model_registry import Model, Registry
from serve.multi_model.residency.model_cache import ModelCache
from serve.multi_model.residency.model_loader import ModelLoader
from serve.multi_model.residency.peers import Peers
from serve.multi_model.residency.versions import Versions
from tests.ledger import Call, Ledger
from tests.unit.serve.multi_model.conftest import Answering

_SECONDS = 60  # until a test that hangs fails


class Gate:
    """Stops a thread until it is opened; other threads can wait for it to arrive."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Event(), threading.Event()

    def stop(self) -> None:
        self._reached.set()
        assert self._open.wait(_SECONDS)

    def wait(self) -> None:
        assert self._reached.wait(_SECONDS)

    def open(self) -> None:
        self._open.set()


class FakeAdmission:
    """Admits every model of 10 bytes."""

    def __init__(self) -> None:
        self.gate: Gate | None = None

    def admit(self, directory: Path, name: str) -> Admitted:
        if self.gate is not None:
            self.gate.stop()
        return Admitted("digest", "signature", "xgboost", 10)


class Worker:
    """A worker's catalogue and models, on a loop in a thread of its own.

    An invocation is answered with the directory that its model was loaded from.
    """

    def __init__(self, directory: Path, registry: Registry, versions: Versions) -> None:
        self.admission = FakeAdmission()
        self.loads: list[Gate] = []  # each stops one load
        self.load_error: Exception | None = None
        self._loop = asyncio.new_event_loop()
        settings = Settings(base_dir=directory)
        self.cache = ModelCache(
            registry,
            versions,
            self._load,
            max_bytes=100,
            pinned=(),
            metrics=ModelMetrics(1, emf_namespace=None),
            retire=lambda: None,
        )
        self.catalogue = Catalogue(
            settings,
            registry,
            self.admission,  # type: ignore[arg-type]
            self.cache,
            Peers(directory),
            max_bytes=100,
            loader=ModelLoader(directory, registry, settings),
        )

    def invoke(self, name: str, while_leased: Callable[[], None] = lambda: None) -> str:
        """Lease a model, call `while_leased`, and return the name of its directory."""

        async def leased() -> str:
            cached = self.cache.lease_now(name)
            if cached is None:
                cached, _ = await self.cache.lease(name)
            try:
                await asyncio.to_thread(while_leased)
                assert isinstance(cached.servable, Answering)
                return Path(cached.model.url).name
            finally:
                self.cache.release(cached)

        return asyncio.run_coroutine_threadsafe(leased(), self._loop).result(_SECONDS)

    def count(self) -> int:
        """Return the number of models that are loading, loaded or being freed."""
        return len(self.cache._models) + len(self.cache._dropped)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the loop."""
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        asyncio.run_coroutine_threadsafe(self.catalogue.start(), self._loop).result(_SECONDS)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self.catalogue._listening.close)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def _load(self, model: Model) -> Answering:
        if self.loads:
            self.loads.pop(0).stop()
        if self.load_error is not None:
            raise self.load_error
        return Answering(model.generation)


@pytest.fixture
def workers(tmp_path: Path, registry: Registry, versions: Versions) -> Iterator[list[Worker]]:
    """Three workers of one server."""
    for version in ("old", "new"):
        (tmp_path / "models" / version).mkdir(parents=True)
    found = [Worker(tmp_path, registry, versions) for _ in range(3)]
    with ExitStack() as stack:
        for worker in found:
            stack.enter_context(worker.running())
        yield found


@pytest.fixture
def background() -> Iterator[Callable[..., "Future[Any]"]]:
    """Starts a call in a thread."""
    with ThreadPoolExecutor(16) as pool:
        yield pool.submit


@pytest.fixture
def url(tmp_path: Path) -> Callable[[str], str]:
    return lambda version: str(tmp_path / "models" / version)


Start = Callable[..., "Future[Any]"]
Url = Callable[[str], str]


def _is_unknown(workers: list[Worker]) -> None:
    """Assert that every call on the name in every worker finds no such model."""
    for worker in workers:
        with pytest.raises(ModelNotFoundError):
            worker.catalogue.describe("m")
        with pytest.raises(ModelNotFoundError):
            worker.catalogue.unload("m")
        with pytest.raises(ModelNotFoundError):
            worker.invoke("m")
        assert worker.catalogue.page("", 9) == ([], False)


@pytest.mark.parametrize("stage", ["validation", "load"])
def test_model_is_unknown_until_its_load_can_succeed(
    workers: list[Worker], background: Start, url: Url, stage: str
) -> None:
    """Answers 404 to other calls, and 409 to loads, in every worker (C-108, C-090)."""
    gate = Gate()
    if stage == "validation":
        workers[0].admission.gate = gate
    else:
        workers[0].loads = [gate]
    load = background(workers[0].catalogue.load, "m", url("old"))
    gate.wait()

    _is_unknown(workers)
    for worker in workers:
        with pytest.raises(ModelAlreadyLoadedError, match="is already being registered"):
            worker.catalogue.load("m", url("new"))

    gate.open()
    load.result(_SECONDS)
    assert [worker.invoke("m") for worker in workers] == ["old"] * 3
    with pytest.raises(ModelAlreadyLoadedError, match="is already registered"):
        workers[1].catalogue.load("m", url("new"))


@pytest.mark.parametrize("error", [ModelLoadError("bad"), OutOfMemoryError("full"), KeyError("x")])
def test_model_whose_load_fails_was_never_there(
    workers: list[Worker], background: Start, url: Url, error: Exception
) -> None:
    """Leaves no trace, and frees the name, whatever was called meanwhile (C-108, C-082)."""
    gate = Gate()
    workers[0].loads, workers[0].load_error = [gate], error
    load = background(workers[0].catalogue.load, "m", url("old"))
    gate.wait()

    _is_unknown(workers)

    gate.open()
    with pytest.raises(type(error)):
        load.result(_SECONDS)
    _is_unknown(workers)
    _wait(lambda: [worker.count() for worker in workers] == [0, 0, 0])
    workers[0].load_error = None
    workers[1].catalogue.load("m", url("new"))
    assert [worker.invoke("m") for worker in workers] == ["new"] * 3


@pytest.mark.parametrize("loaded_again", [False, True])
def test_load_succeeds_although_its_model_is_unloaded_at_once(
    workers: list[Worker],
    background: Start,
    url: Url,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    loaded_again: bool,
) -> None:
    """Succeeds also where the name then belongs to other files (C-108)."""
    gate, add = Gate(), registry.add

    def add_and_stop(model: Model, **options: Any) -> Any:
        added = add(model, **options)
        if Path(model.url).name == "old":
            gate.stop()
        return added

    monkeypatch.setattr(registry, "add", add_and_stop)
    load = background(workers[0].catalogue.load, "m", url("old"))
    gate.wait()

    assert workers[1].invoke("m") == "old"
    unload = background(workers[1].catalogue.unload, "m")
    _wait(lambda: registry.find("m") is None)
    if loaded_again:
        workers[2].catalogue.load("m", url("new"))
        assert workers[0].invoke("m") == "new"
    gate.open()

    load.result(_SECONDS)
    unload.result(_SECONDS)
    if loaded_again:
        assert [worker.invoke("m") for worker in workers] == ["new"] * 3
    else:
        _is_unknown(workers)
        _wait(lambda: [worker.count() for worker in workers] == [0, 0, 0])


def test_of_two_unloads_one_succeeds(
    workers: list[Worker], background: Start, url: Url, registry: Registry
) -> None:
    """Answers 404 to the second, also while the first waits (C-108, C-085)."""
    workers[0].catalogue.load("m", url("old"))
    gate = Gate()
    invocation = background(workers[2].invoke, "m", gate.stop)
    gate.wait()
    unload = background(workers[0].catalogue.unload, "m")
    _wait(lambda: registry.find("m") is None)

    with pytest.raises(ModelNotFoundError):
        workers[1].catalogue.unload("m")
    assert not unload.done()

    gate.open()
    unload.result(_SECONDS)
    assert invocation.result(_SECONDS) == "old"


def test_name_is_free_while_its_old_model_drains(
    workers: list[Worker], background: Start, url: Url, registry: Registry
) -> None:
    """The old model answers an invocation that began before (C-108, C-088)."""
    workers[0].catalogue.load("m", url("old"))
    gate = Gate()
    invocation = background(workers[0].invoke, "m", gate.stop)
    gate.wait()
    unload = background(workers[1].catalogue.unload, "m")
    _wait(lambda: registry.find("m") is None)

    workers[0].catalogue.load("m", url("new"))

    assert [worker.invoke("m") for worker in workers] == ["new"] * 3
    assert not unload.done()
    gate.open()
    unload.result(_SECONDS)
    assert invocation.result(_SECONDS) == "old"
    assert [worker.invoke("m") for worker in workers] == ["new"] * 3


@pytest.mark.parametrize("loaded_again", [False, True])
def test_invocation_that_waits_for_its_model_is_answered_although_it_is_unloaded(
    workers: list[Worker], background: Start, url: Url, registry: Registry, loaded_again: bool
) -> None:
    """The unload waits for an invocation that found the model (C-108, C-086)."""
    workers[0].catalogue.load("m", url("old"))
    gate = Gate()
    workers[1].loads = [gate]
    invocation = background(workers[1].invoke, "m")
    gate.wait()
    unload = background(workers[2].catalogue.unload, "m")
    _wait(lambda: registry.find("m") is None)
    if loaded_again:
        workers[0].catalogue.load("m", url("new"))
        assert workers[1].invoke("m") == "new"
    else:
        with pytest.raises(ModelNotFoundError):
            workers[1].invoke("m")
    assert not unload.done()

    gate.open()

    assert invocation.result(_SECONDS) == "old"
    unload.result(_SECONDS)


def test_load_that_took_too_long_does_not_replace_its_successor(
    workers: list[Worker],
    background: Start,
    url: Url,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that stopped responding has lost the name to another one (C-108)."""
    gate = Gate()
    workers[0].loads = [gate]
    load = background(workers[0].catalogue.load, "m", url("old"))
    gate.wait()
    monkeypatch.setattr(Peers, "is_alive", lambda *_: False)
    workers[1].catalogue.load("m", url("new"))

    gate.open()

    with pytest.raises(ModelAlreadyLoadedError):
        load.result(_SECONDS)
    assert [worker.invoke("m") for worker in workers] == ["new"] * 3


_KINDS = ("load", "load", "unload", "invoke", "describe")
_STATUS = {ModelNotFoundError: 404, ModelAlreadyLoadedError: 409, ModelLoadError: 400}


@pytest.mark.parametrize("seed", range(8))
def test_answers_are_those_of_some_order(
    workers: list[Worker], background: Start, url: Url, seed: int
) -> None:
    """Some order of the calls explains all answers, also where loads fail (C-108)."""
    loaded: str | None = None
    choice = random.Random(seed)  # noqa: S311
    for index in range(12):
        ledger, barrier = Ledger(), threading.Barrier(9)
        workers[0].load_error = ModelLoadError("bad") if index % 3 == 2 else None

        def call_twice(
            worker: Worker,
            kind: str,
            version: str,
            ledger: Ledger = ledger,
            barrier: threading.Barrier = barrier,
        ) -> None:
            barrier.wait(_SECONDS)
            for _ in range(2):
                with ledger.record(kind, version if kind == "load" else None) as recorded:
                    _do(worker.catalogue, worker, recorded, url)

        chosen = [
            (choice.choice(workers), choice.choice(_KINDS), choice.choice(("old", "new")))
            for _ in range(9)
        ]
        for done in [background(call_twice, *each) for each in chosen]:
            done.result(_SECONDS)
        workers[0].load_error = None
        with ledger.record("describe") as last:
            _do(workers[1].catalogue, workers[1], last, url)
        assert ledger.explain(loaded) is not None, sorted(ledger.calls, key=lambda c: c.start)
        loaded = last.version


def _do(catalogue: Catalogue, worker: Worker, call: Call, url: Url) -> None:
    call.status = 200
    try:
        if call.kind == "load":
            catalogue.load("m", url(str(call.version)))
        elif call.kind == "unload":
            catalogue.unload("m")
        elif call.kind == "describe":
            call.version = Path(catalogue.describe("m").url).name
        else:
            call.version = worker.invoke("m")
    except ContainerError as error:
        call.status = _STATUS[type(error)]


def _wait(condition: Callable[[], bool]) -> None:
    """Wait until another thread has made the condition true."""
    pause = threading.Event()
    for _ in range(_SECONDS * 200):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it does not happen")
