"""Clients that load, unload and invoke one name at once: each answer is about its own call."""

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.blackbox.multi_model.conftest import Fleet, StartFleet
from tests.ledger import Call, Ledger

pytestmark = pytest.mark.slow

_N_CLIENTS = 8
_KINDS = ("load", "load", "unload", "invoke", "describe")
_VALUES = {"1.0": 1.0, "2.0": 2.0}  # what the models answer, which are in directories of that name


def test_answers_are_those_of_some_order(start_fleet: StartFleet) -> None:
    """A load is never 404 because another client unloaded its model, on several workers
    (C-108, C-090).
    """
    choice = random.Random(9)  # noqa: S311
    loaded: str | None = None
    with (
        start_fleet(SAGEMAKER_MODEL_SERVER_WORKERS="3") as fleet,
        ThreadPoolExecutor(_N_CLIENTS) as pool,
    ):
        for place, value in _VALUES.items():
            fleet.write_constant(place, value)
        fleet.write("broken", {"xgboost-model": "{"})
        for _ in range(40):
            ledger, barrier = Ledger(), threading.Barrier(_N_CLIENTS)
            chosen = [
                (choice.choice(_KINDS), choice.choice((*_VALUES, "broken")))
                for _ in range(_N_CLIENTS)
            ]

            def call_twice(
                kind: str,
                place: str,
                ledger: Ledger = ledger,
                barrier: threading.Barrier = barrier,
            ) -> None:
                barrier.wait(60)
                for _ in range(2):
                    with ledger.record(kind, place if kind == "load" else None) as call:
                        _do(fleet, call)

            for done in [pool.submit(call_twice, *each) for each in chosen]:
                done.result()
            with ledger.record("describe") as last:
                _do(fleet, last)
            assert ledger.explain(loaded) is not None, sorted(ledger.calls, key=lambda c: c.start)
            loaded = last.version


def _do(fleet: Fleet, call: Call) -> None:
    if call.kind == "load":
        answer = fleet.load("m", call.version)
        expected: tuple[int, ...] = (400, 409) if call.version == "broken" else (200, 409)
    elif call.kind == "unload":
        answer, expected = fleet.unload("m"), (200, 404)
    elif call.kind == "describe":
        answer, expected = fleet.describe("m"), (200, 404)
        if answer.status == 200:
            call.version = json.loads(answer.body)["modelUrl"].split("/")[-2]
    else:
        answer, expected = fleet.invoke("m"), (200, 404)
        if answer.status == 200:
            call.version = answer.text.strip()
    assert answer.status in expected, (call, answer.text)
    call.status = answer.status
