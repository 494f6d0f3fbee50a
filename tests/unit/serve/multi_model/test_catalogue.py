import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from container import cgroup
from container.errors import ContainerError, ModelLoadError, ModelNotFoundError, OutOfMemoryError
from container.settings import Settings
from serve import loading
from serve.multi_model import model_files
from serve.multi_model.admission.admission_check import Admitted
from serve.multi_model.catalogue import Catalogue
from serve.multi_model.model_metrics import ModelMetrics
from serve.multi_model.model_registry import Model, Registry
from serve.multi_model.residency.model_cache import ModelCache
from serve.multi_model.residency.model_loader import ModelLoader
from serve.multi_model.residency.peers import Peers
from serve.multi_model.residency.versions import Versions
from tests.unit.serve.multi_model.conftest import Answering
from tests.waiting import PATIENCE_SECONDS


class FakeAdmission:
    """Admits every model with `n_bytes`, or raises."""

    n_bytes = 10
    error: Exception | None = None
    n_without_memory = 0  # trials that find no room

    def admit(self, directory: Path, name: str) -> Admitted:
        if self.error is not None:
            raise self.error
        if self.n_without_memory:
            self.n_without_memory -= 1
            raise OutOfMemoryError("loading the model takes more memory than there is")
        return Admitted("digest", "signature", "xgboost", self.n_bytes)


class Worker:
    """A catalogue with its registry, cache and peers, on a loop of its own."""

    def __init__(self, directory: Path, registry: Registry, versions: Versions) -> None:
        self.admission = FakeAdmission()
        self.load_error: Exception | None = None
        self.directory = directory
        (directory / "models" / "m").mkdir(parents=True)
        self.settings = Settings(base_dir=directory)
        self.registry = registry
        self._versions = versions

    def run(self, work: Callable[[Catalogue], Any], **settings: Any) -> Any:
        """Do `work` in a thread, as Flask does."""

        async def main() -> Any:
            cache = ModelCache(
                self.registry,
                self._versions,
                self._load,
                max_bytes=25,
                pinned=(),
                metrics=ModelMetrics(1, emf_namespace=None),
                retire=lambda: None,
            )
            catalogue = Catalogue(
                Settings(base_dir=self.directory, **settings),
                self.registry,
                self.admission,  # type: ignore[arg-type]
                cache,
                Peers(self.directory),
                max_bytes=25,
                loader=ModelLoader(self.directory, self.registry, self.settings),
            )
            await catalogue.start()
            async with asyncio.timeout(PATIENCE_SECONDS), catalogue._listening:
                return await asyncio.to_thread(work, catalogue)

        return asyncio.run(main())

    @property
    def url(self) -> str:
        return str(self.directory / "models" / "m")

    def _load(self, model: Model) -> Answering:
        if self.load_error is not None:
            raise self.load_error
        return Answering(model.generation)


@pytest.fixture
def worker(tmp_path: Path, registry: Registry, versions: Versions) -> Worker:
    return Worker(tmp_path, registry, versions)


def test_model_is_loaded_described_listed_and_unloaded(worker: Worker) -> None:
    """Answers name and url as they were given (C-079, C-083, C-084, C-085)."""

    def work(catalogue: Catalogue) -> None:
        catalogue.load("b", worker.url)
        catalogue.load("a", worker.url)
        assert catalogue.describe("a").url == worker.url
        first, has_more = catalogue.page("", 1)
        assert ([model.name for model in first], has_more) == (["a"], True)
        catalogue.unload("a")
        with pytest.raises(ModelNotFoundError, match="Model not found: a"):
            catalogue.unload("a")
        assert catalogue.page("", 9)[1] is False

    worker.run(work)


@pytest.mark.parametrize("error", [ModelLoadError("bad"), MemoryError(), KeyError("unknown")])
def test_load_that_fails_leaves_the_name_free(worker: Worker, error: Exception) -> None:
    """Frees the name after a failure in the validation run or in the worker (C-082)."""

    def work(catalogue: Catalogue) -> None:
        worker.admission.error = error
        with pytest.raises(type(error)):
            catalogue.load("m", worker.url)
        worker.admission.error, worker.load_error = None, error
        with pytest.raises(type(error)):
            catalogue.load("m", worker.url)
        worker.load_error = None
        assert worker.registry.totals() == (0, 0)
        catalogue.load("m", worker.url)

    worker.run(work)
    assert worker.registry.totals() == (1, 10)


def test_model_larger_than_a_workers_share_is_refused(worker: Worker) -> None:
    """Refuses it whether models are evicted or not (C-081)."""
    worker.admission.n_bytes = 26 * 2**20

    def work(catalogue: Catalogue) -> None:
        with pytest.raises(OutOfMemoryError, match=r"takes 26\.0 MiB"):
            catalogue.load("m", worker.url)

    worker.run(work)
    worker.run(work, on_full="refuse")
    assert worker.registry.totals() == (0, 0)


def test_third_model_is_evicted_for_or_refused(worker: Worker) -> None:
    """Evicts or refuses as BYOA_ON_FULL says; a refused name is free (C-081)."""

    def load(*names: str) -> Callable[[Catalogue], None]:
        def work(catalogue: Catalogue) -> None:
            for name in names:
                catalogue.load(name, worker.url)

        return work

    worker.run(load("a", "b", "c"))
    with pytest.raises(OutOfMemoryError, match="taken by 3 models, and BYOA_ON_FULL=refuse"):
        worker.run(load("d"), on_full="refuse")
    worker.run(load("d"))
    assert worker.registry.totals() == (4, 40)


def test_trial_that_finds_no_room_is_repeated_where_idle_models_can_make_some(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repeats it once, and not with BYOA_ON_FULL=refuse (C-081)."""
    monkeypatch.setattr(cgroup, "memory_available_bytes", lambda: 0)

    def work(catalogue: Catalogue) -> None:
        worker.admission.n_without_memory = 1
        with pytest.raises(OutOfMemoryError):  # nothing is here yet
            catalogue.load("a", worker.url)
        catalogue.load("a", worker.url)
        worker.admission.n_without_memory = 1
        catalogue.load("b", worker.url)
        worker.admission.n_without_memory = 2
        with pytest.raises(OutOfMemoryError):
            catalogue.load("c", worker.url)
        assert worker.admission.n_without_memory == 0

    worker.run(work)
    worker.admission.n_without_memory = 1
    with pytest.raises(OutOfMemoryError):
        worker.run(lambda catalogue: catalogue.load("c", worker.url), on_full="refuse")


def test_room_is_made_only_once_for_files_that_do_not_fit(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evicts once for the same files, however often they are loaded."""
    monkeypatch.setattr(cgroup, "memory_available_bytes", lambda: 0)

    def work(catalogue: Catalogue) -> None:
        catalogue.load("a", worker.url)
        worker.admission.n_without_memory = 2
        with pytest.raises(OutOfMemoryError):
            catalogue.load("b", worker.url)
        catalogue.load("c", worker.url)
        worker.admission.n_without_memory = 2
        with pytest.raises(OutOfMemoryError):
            catalogue.load("b", worker.url)
        assert (
            worker.admission.n_without_memory == 1
        )  # it was validated once, and nothing else was done

        (Path(worker.url) / "other").touch()
        worker.admission.n_without_memory = 1
        catalogue.load("b", worker.url)

    worker.run(work)


def test_catalogue_that_was_not_started_says_so(worker: Worker) -> None:
    """Raises an error before `start`."""

    def work(catalogue: Catalogue) -> None:
        catalogue._loop = None
        with pytest.raises(ContainerError, match="has not started"):
            catalogue.load("m", worker.url)

    worker.run(work)


def _admitted(directory: Path) -> Model:
    """A model of one file, as in the registry."""
    path = directory / "models" / "m"
    path.mkdir(parents=True)
    (path / "file").write_text("1")
    return Model(1, "m", str(path), model_files.digest(path), model_files.signature(path), "x", 10)


@pytest.fixture
def loader(tmp_path: Path, registry: Registry) -> ModelLoader:
    return ModelLoader(tmp_path, registry, Settings(base_dir=tmp_path, is_multi_model=True))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Have every model loaded by this function."""

    def set_function(load: Callable[[], Any]) -> None:
        class Loadable:
            def load(self) -> Any:
                return load()

        monkeypatch.setattr(loading, "inspect", lambda *_, **__: Loadable())

    return set_function


def test_files_are_loaded_only_if_they_are_those_that_were_admitted(
    tmp_path: Path, loader: ModelLoader, loads: Callable[[Callable[[], Any]], None]
) -> None:
    """Reads touched files again, refuses changed and missing ones (C-088)."""
    model = _admitted(tmp_path)
    loads(lambda: Answering(1))
    file = Path(model.url, "file")
    assert isinstance(loader.load(model), Answering)

    file.touch()
    loader.load(model)
    file.write_text("2")
    with pytest.raises(ModelLoadError, match="have changed since it was loaded"):
        loader.load(model)
    shutil.rmtree(model.url)
    with pytest.raises(ModelLoadError, match="are gone"):
        loader.load(model)


def test_files_that_change_while_they_are_read_are_not_loaded(
    tmp_path: Path, loader: ModelLoader, loads: Callable[[Callable[[], Any]], None]
) -> None:
    """Refuses a mixture of old and new files (C-088)."""
    model = _admitted(tmp_path)
    loads(lambda: Path(model.url, "file").write_text("23"))

    with pytest.raises(ModelLoadError, match="have changed since it was loaded"):
        loader.load(model)


def test_memory_that_loading_lacks_is_507(
    tmp_path: Path, loader: ModelLoader, loads: Callable[[Callable[[], Any]], None]
) -> None:
    """Answers 507 where a framework raises MemoryError (C-081)."""

    def load() -> None:
        raise MemoryError

    loads(load)

    with pytest.raises(OutOfMemoryError, match=r"loading model m takes .* of \d+ MiB are free"):
        loader.load(_admitted(tmp_path))
