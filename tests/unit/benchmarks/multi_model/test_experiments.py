"""The experiments against a server that is made of a dictionary."""

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.harness.running import ServerError
from benchmarks.multi_model import make_models, scale, warm
from benchmarks.multi_model.api import Answer, Api
from benchmarks.multi_model.article import Platform
from benchmarks.multi_model.models import Models
from tests.unit.benchmarks.conftest import make_sample


class FullAt(Api):
    """Holds so many models, and refuses more with 507."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.loaded: list[str] = []
        self.invoked: list[str] = []

    def load(self, name: str, directory: Path) -> Answer:
        if name in self.loaded:
            return Answer(409, b"", 0.1)
        if len(self.loaded) >= self._capacity:
            return Answer(507, b"", 0.1)
        self.loaded.append(name)
        return Answer(200, b"", 0.1)

    def unload(self, name: str) -> Answer:
        self.loaded.remove(name)
        return Answer(200, b"", 0.1)

    def invoke(self, models: Models, name: str) -> Answer:
        assert name in self.loaded
        self.invoked.append(name)
        return Answer(200, b"", 0.1)


@pytest.fixture
def models(tmp_path: Path) -> Models:
    expected = {name: 0.25 for name in "abcdef"}
    (tmp_path / "expected.json").write_text(json.dumps({"row": [1.0, 2.0], "expected": expected}))
    return Models(tmp_path)


def test_platform_unloads_what_was_used_least_recently(models: Models) -> None:
    """a, b and c fit; a is used again before d comes, so b has to go."""
    api = FullAt(3)
    platform = Platform(api, models)

    hits = [platform.invoke(name) for name in "abcadb"]

    assert hits == [False, False, False, True, False, False]
    assert sorted(api.loaded) == ["a", "b", "d"]
    assert platform.n_loaded == 3
    assert api.invoked == list("abcadb")


def test_platform_gives_up_when_nothing_fits(models: Models) -> None:
    """There is nothing left to unload."""
    with pytest.raises(ServerError, match="load a: status 507"):
        Platform(FullAt(0), models).invoke("a")


def test_article_pattern_hits_in_the_second_pass(models: Models) -> None:
    """Half of the models, again, then all: as in the article."""
    platform = Platform(FullAt(4), models)
    names = models.names

    hits = [platform.invoke(name) for name in (*names[:3], *names[:3], *names)]

    assert hits == [False] * 3 + [True] * 3 + [True] * 3 + [False] * 3
    assert platform.n_loaded == 4


def test_zipf_draws_by_rank() -> None:
    """The second most frequent one comes about 2^-1.1 times as often, and all is repeatable."""
    names = [f"m{index}" for index in range(1000)]

    drawn = list(scale.zipf(names, 50_000))
    (_, first), (_, second), (_, third) = Counter(drawn).most_common(3)

    assert second / first == pytest.approx(2**-1.1, abs=0.05)
    assert third / first == pytest.approx(3**-1.1, abs=0.05)
    assert list(scale.zipf(names, 100)) == drawn[:100]
    assert set(drawn) <= set(names)


def test_answer_is_right_within_the_tolerance(models: Models) -> None:
    """0.25 is expected."""
    assert models.is_right("a", b"0.250001\n")
    assert not models.is_right("a", b"0.2502\n")
    assert models.body == b"1.0,2.0\n"


@pytest.mark.parametrize("answer", [b"", b"oops", b"0.25\n0.25\n", b"nan"])
def test_answer_that_is_no_prediction_is_wrong(models: Models, answer: bytes) -> None:
    """Rather than the end of the whole run."""
    assert not models.is_right("a", answer)


def test_small_models_are_small_and_no_two_alike(tmp_path: Path) -> None:
    """20 trees of depth 4 are about 31 kB; each predicts something else for the row."""
    make_models.main(["small", "3", str(tmp_path / "made")])

    models = Models(tmp_path / "made")
    files = [models.directory(name) / "xgboost-model" for name in models.names]
    assert models.names == ["m00000", "m00001", "m00002"]
    assert all(29_000 < file.stat().st_size < 33_000 for file in files)
    assert len({file.read_bytes() for file in files}) == 3
    assert len(set(models.expected.values())) == 3


def test_warm_cost_with_errors_is_an_error() -> None:
    """A server that refuses would be a cheap one, and the other looked dear beside it."""
    assert warm.cpu_us(make_sample("ours", cpu_us=120)) == 120
    with pytest.raises(ServerError, match="ours: 7 requests failed"):
        warm.cpu_us(make_sample("ours", cpu_us=120, errors=7))
