import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from container.errors import ModelAlreadyLoadedError, PlatformError
from serve.multi_model import model_registry as registry_module
from serve.multi_model.model_registry import Model, Registry, Verdict
from serve.multi_model.residency.versions import Versions, is_settled


def test_model_is_found_by_its_name_until_it_is_removed(
    registry: Registry, add: Callable[..., Model]
) -> None:
    """Has a larger generation than any model before it (C-079, C-085)."""
    first = add("a")
    second = add("b")

    assert registry.find("a") == first
    assert second.generation > first.generation
    assert registry.remove("a") == first
    assert registry.find("a") is None
    assert registry.remove("a") is None
    assert add("a").generation > second.generation


def test_name_can_be_reserved_once(registry: Registry, add: Callable[..., Model]) -> None:
    """Refuses the name of a model and of a load under way (C-080, C-090)."""
    generation = registry.reserve("a", "one", lambda owner: True)
    with pytest.raises(ModelAlreadyLoadedError, match="Model a is already being registered"):
        registry.reserve("a", "two", lambda owner: True)
    registry.cancel(generation)

    add("a")

    with pytest.raises(ModelAlreadyLoadedError, match=r"Model a is already registered\."):
        registry.reserve("a", "one", lambda owner: True)


def test_reservation_of_the_dead_is_taken_over(registry: Registry) -> None:
    """Frees the name of a load whose worker has ended at once (C-090)."""
    lost = registry.reserve("a", "dead", lambda owner: True)

    generation = registry.reserve("a", "alive", lambda owner: owner != "dead")

    with pytest.raises(ModelAlreadyLoadedError):
        registry.reserve("a", "third", lambda owner: owner == "alive")
    # It was not dead, but did not answer.
    with pytest.raises(ModelAlreadyLoadedError, match="another worker took over its name"):
        registry.add(Model(lost, "a", "/models/a", "d", "s", "xgboost", 1))
    registry.cancel(lost)
    assert registry.add(Model(generation, "a", "/models/a", "d", "s", "xgboost", 1))


def test_pages_follow_the_names(registry: Registry, add: Callable[..., Model]) -> None:
    """Lists each model on one page while others are added and removed (C-083)."""
    for name in ("c", "a", "d", "b"):
        add(name)

    first = registry.page("", 2)
    registry.remove("b")
    add("aa")
    second = registry.page("b", 2)

    assert [model.name for model in first] == ["a", "b"]
    assert [model.name for model in second] == ["c", "d"]
    assert registry.page("d", 2) == []


def test_limit_of_all_models_together_is_kept(
    registry: Registry, add: Callable[..., Model]
) -> None:
    """Does not add a model beyond the limit; its name stays reserved (C-081)."""
    add("a", n_bytes=60)
    generation = registry.reserve("b", "me", lambda owner: True)
    model = Model(generation, "b", "/models/b", "d", "s", "xgboost", 50)

    assert not registry.add(model, max_bytes=100)
    assert registry.find("b") is None
    assert registry.totals() == (1, 60)
    assert registry.add(model, max_bytes=110)
    assert registry.totals() == (2, 110)


def test_every_change_of_a_name_changes_its_version(
    registry: Registry, versions: Versions, add: Callable[..., Model]
) -> None:
    """Workers that have the model in their cache notice every change."""
    place = versions.index("a")
    seen = [versions.cells[place]]

    add("a")
    seen.append(versions.cells[place])
    registry.remove("a")
    seen.append(versions.cells[place])

    assert len(set(seen)) == 3
    assert all(is_settled(version) for version in seen)


def test_moment_is_claimed_once(registry: Registry) -> None:
    """One of several workers reports."""
    assert [registry.claim(moment) for moment in (5, 5, 4, 6)] == [True, False, False, True]


def test_verdicts_are_kept_and_the_oldest_forgotten(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of verdicts is bounded."""
    monkeypatch.setattr(registry_module, "_MAX_VERDICTS", 2)
    good, bad = Verdict("xgboost", 5), Verdict("", 0, "it is damaged")

    registry.remember("1", good)
    registry.remember("2", bad)
    assert (registry.verdict("1"), registry.verdict("2")) == (good, bad)
    registry.remember("3", good)

    assert registry.verdict("1") is None
    assert registry.verdict("2") == bad


def test_problem_that_names_a_file_with_any_bytes_is_kept(registry: Registry) -> None:
    """Escapes bytes that are not Unicode text (C-082)."""
    registry.remember("1", Verdict("", 0, f"files found: {os.fsdecode(bytes([255]))}"))

    assert registry.verdict("1") == Verdict("", 0, "files found: \\udcff")


def _is_free(directory: Path) -> bool:
    """True if no process holds the lock of the registry in `directory`."""
    with (directory / "registry.lock").open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_lock_is_given_back_even_if_another_process_has_it_open(
    registry: Registry, tmp_path: Path
) -> None:
    """Unlocks also for a child that was forked without Python's hooks (C-089)."""
    with registry._writing():
        (descriptor,) = registry._locks
        forked = os.dup(descriptor)
        assert not _is_free(tmp_path)

    assert _is_free(tmp_path)
    os.close(forked)


def test_full_disk_is_an_error_of_ours(registry: Registry, tmp_path: Path) -> None:
    """Raises `PlatformError`, not `sqlite3.Error`."""
    (tmp_path / "registry.sqlite").write_bytes(b"no database" * 1000)
    threaded: list[BaseException] = []

    def find() -> None:
        try:
            registry.find("a")
        except PlatformError as error:
            threaded.append(error)

    thread = threading.Thread(target=find)
    thread.start()
    thread.join()

    assert "the registry of models cannot be used" in str(threaded[0])
