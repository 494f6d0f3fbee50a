"""The handler, called as multi-model-server calls it."""

import gzip
import json
import logging
import os
import select
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from container.errors import ModelLoadError
from serve.mms import handler, unregister
from serve.mms.in_flight import InFlight
from tests.unit.serve.conftest import ModelDirectory
from tests.waiting import PATIENCE_SECONDS

Fields = Mapping[str, Any]
CSV = {"Content-Type": "text/csv"}
SUMS = """
    def model_fn(model_dir):
        return None

    def input_fn(input_data, content_type):
        return [float(cell) for cell in input_data.split(",")]

    def predict_fn(data, model):
        return sum(data)

    def output_fn(prediction, accept):
        return str(prediction), "text/plain"
"""


@dataclass
class Context:
    """Behaves as `mms.context.Context` of multi-model-server 1.1.11 does."""

    model_dir: Path
    requests: list[dict[str, Any]] = field(default_factory=list)
    model_name: str = "m"
    statuses: dict[int, tuple[int, str]] = field(default_factory=dict)
    headers: dict[int, dict[str, str]] = field(default_factory=dict)

    @property
    def system_properties(self) -> Mapping[str, Any]:
        return {"model_dir": str(self.model_dir), "gpu_id": None, "batch_size": 1}

    def get_request_id(self, idx: int = 0) -> str:
        return f"id-{idx}"

    def get_all_request_header(self, idx: int) -> Mapping[str, Any]:
        return self.requests[idx]

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self.statuses[idx] = (code, phrase)

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        self.headers.setdefault(idx, {})[key] = value


class Model:
    """A model that the handler has loaded."""

    def __init__(self, directory: Path) -> None:
        self.context = Context(directory)
        assert handler.handle(None, self.context) == []

    def ask(self, body: Any, headers: Mapping[str, str] = CSV) -> tuple[int, bytes]:
        """Send one request; what it has set besides the status is in `context`."""
        self.context = Context(
            self.context.model_dir,
            [{"body": {"content-type": headers.get("Content-Type", "")}, **headers}],
        )
        fields: Fields = {} if body is None else {"body": bytearray(body)}
        (answer,) = handler.handle([fields], self.context)
        return self.context.statuses[0][0], answer


@pytest.fixture
def model_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A model root; restores logging and the temporary directory afterwards."""
    root = tmp_path / "model"  # the directory of `model_directory`
    root.mkdir(exist_ok=True)
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.setenv("BYOA_MODEL_ROOTS", str(root))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    levels, handlers = logging.root.level, logging.root.handlers[:]
    yield root
    logging.root.setLevel(levels)
    logging.root.handlers[:] = handlers
    logging.captureWarnings(False)
    if hasattr(handler._Process, "in_flight"):
        handler._Process.in_flight.close()


@pytest.fixture
def booster() -> xgboost.Booster:
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    return xgboost.train({}, xgboost.DMatrix(rows, rows[:, 0]), 2)


@pytest.fixture
def model(model_directory: ModelDirectory, model_root: Path, booster: xgboost.Booster) -> Model:
    """An XGBoost model with two features."""
    model_directory.write({"xgboost-model": bytes(booster.save_raw("ubj"))})
    return Model(model_directory.path)


@pytest.fixture
def sums(model_directory: ModelDirectory, model_root: Path) -> Model:
    model_directory.write({"code/inference.py": SUMS})
    return Model(model_directory.path)


def test_answer_is_that_of_the_model(model: Model, booster: xgboost.Booster) -> None:
    """Handles content types, accept and headers as `/invocations` (C-086)."""
    expected = booster.predict(xgboost.DMatrix(np.array([[1, 2]], np.float32)))

    status, body = model.ask(b"1,2\n", {**CSV, "Accept": "application/json"})

    assert status == 200
    assert json.loads(body)["predictions"][0]["score"] == pytest.approx(expected[0], abs=1e-6)
    assert model.context.headers[0] == {"content-type": "application/json"}
    assert model.context.statuses[0] == (200, "OK")


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"1,2,3\n", CSV, 400, "malformed_payload"),
        (b"x", {"Content-Type": "text/xml"}, 415, "unsupported_content_type"),
        (b"1,2\n", {**CSV, "accept": "image/png"}, 406, "unsupported_accept"),
        (b"1,2\n", {**CSV, "Content-Encoding": "br"}, 415, "unsupported_content_encoding"),
    ],
)
def test_bad_request_has_the_same_status_and_error_body_as_elsewhere(
    model: Model, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    """Answers 4xx where multi-model-server would answer 503 (C-054, C-057)."""
    answered, text = model.ask(body, headers)

    error = json.loads(text)["error"]
    assert (answered, error["code"], error["request_id"]) == (status, code, "id-0")
    assert model.context.headers[0]["content-type"] == "application/json"


def test_empty_body_is_204(model: Model) -> None:
    """Answers an empty body with 204 and no content type (C-058)."""
    assert model.ask(b"") == (204, b"")
    assert model.context.headers == {}


def test_body_of_which_only_a_form_is_left_is_415(model: Model) -> None:
    """Refuses a form with 415, and does not take it for an empty body."""
    status, text = model.ask(None, {"Content-Type": "application/x-www-form-urlencoded"})

    assert status == 415
    assert b"parses this one as a form" in text


def test_header_names_are_matched_in_any_case(model: Model) -> None:
    """Finds headers in any case."""
    assert model.ask(b"1,2\n", {"CONTENT-TYPE": "text/csv", "ACCEPT": "text/csv"})[0] == 200


def test_gzip_body_is_read(model: Model) -> None:
    """Inflates gzip, which multi-model-server does not."""
    body = gzip.compress(b"1,2\n3,4\n")

    assert model.ask(body, {**CSV, "Content-Encoding": "gzip"})[0] == 200
    assert model.ask(body, CSV)[0] == 200


def test_clients_own_id_comes_first(model: Model) -> None:
    """Uses the client's id, by which the log line can be found."""
    _, text = model.ask(b"1\n", {**CSV, "X-Amzn-SageMaker-Inference-Id": "mine"})

    assert json.loads(text)["error"]["request_id"] == "mine"


def test_requests_of_a_batch_are_answered_each_for_itself(sums: Model) -> None:
    """Answers each request of a batch by itself."""
    requests = [{"Content-Type": "text/csv"}, {"Content-Type": "text/csv"}]
    context = Context(sums.context.model_dir, requests)

    answers = handler.handle([{"body": b"1,2"}, {"body": b"x"}], context)

    assert answers[0] == b"3.0"
    assert context.statuses == {0: (200, "OK"), 1: (500, "Internal Server Error")}


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [("MemoryError", 507, "out_of_memory"), ("ValueError", 500, "internal_error")],
)
def test_what_a_models_code_raises_is_an_answer(
    model_directory: ModelDirectory, model_root: Path, raised: str, status: int, code: str
) -> None:
    """Answers 507 for lack of memory; sends no traceback (C-091)."""
    script = f"def transform_fn(*arguments): raise {raised}('secret')\ndef model_fn(d): return 1"
    model_directory.write({"code/inference.py": script})

    answered, text = Model(model_directory.path).ask(b"1")

    assert (answered, json.loads(text)["error"]["code"]) == (status, code)
    assert b"secret" not in text


def test_status_and_headers_of_user_code_are_set(
    model_directory: ModelDirectory, model_root: Path
) -> None:
    """Sets a status without a phrase in HTTP, too (C-052)."""
    script = """
        def model_fn(model_dir):
            return None

        def transform_fn(model, data, content_type, accept, context):
            context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "a=b")
            context.set_response_status(299)
            return "text"
    """
    model_directory.write({"code/inference.py": script})
    model = Model(model_directory.path)

    assert model.ask(b"1") == (299, b"text")
    assert model.context.statuses[0] == (299, "")
    assert model.context.headers[0]["x-amzn-sagemaker-custom-attributes"] == "a=b"


def test_stream_is_one_body(model_directory: ModelDirectory, model_root: Path) -> None:
    """Joins a stream, since multi-model-server cannot stream."""
    script = "def model_fn(d): return 1\ndef transform_fn(*arguments): yield from ('a', b'b')"
    model_directory.write({"code/inference.py": script})

    assert Model(model_directory.path).ask(b"1") == (200, b"ab")


def test_load_of_a_broken_model_raises_with_the_reason_in_the_log(
    model_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fails the load, and logs the reason, which its answer lacks (C-082)."""
    with pytest.raises(ModelLoadError):
        handler.handle(None, Context(model_root))

    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (line["event"], line["model_name"]) == ("model_load_failed", "m")
    assert "files found: none" in line["reason"]


def test_link_that_leads_out_of_the_roots_is_no_model(
    model_root: Path, tmp_path: Path, booster: xgboost.Booster
) -> None:
    """Refuses a model directory that is a link to one outside the roots."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "xgboost-model").write_bytes(booster.save_raw("ubj"))
    (model_root / "link").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ModelLoadError, match="outside BYOA_MODEL_ROOTS"):
        handler.handle(None, Context(model_root / "link"))


def test_model_directory_does_not_come_before_pythons_own(
    model_directory: ModelDirectory, model_root: Path
) -> None:
    """Python's `json` comes before a model's `json.py`."""
    model_directory.write({"code/inference.py": SUMS})
    added = [str(model_directory.path / "serve.mms.handler"), str(model_directory.path)]
    sys.path[:0] = added  # as multi-model-server does

    Model(model_directory.path)

    assert not set(added) & set(sys.path)


def test_invocation_is_in_flight_while_it_is_answered(
    model_directory: ModelDirectory, model_root: Path, tmp_path: Path
) -> None:
    """Holds the lock that the launcher waits for (C-062)."""
    script = f"""
        import threading
        begun, may_end = threading.Event(), threading.Event()
        def model_fn(model_dir):
            return begun, may_end
        def transform_fn(model, *arguments):
            model[0].set()
            model[1].wait({PATIENCE_SECONDS})
            return "done"
    """
    model_directory.write({"code/inference.py": script})
    model = Model(model_directory.path)
    begun, may_end = handler._Process.worker._servable._loaded.model  # type: ignore[attr-defined]

    with closing(InFlight(tmp_path)) as in_flight:
        assert not in_flight.is_any()
        thread = threading.Thread(target=model.ask, args=(b"1",))
        thread.start()
        begun.wait(PATIENCE_SECONDS)
        assert in_flight.is_any()
        may_end.set()
        thread.join(PATIENCE_SECONDS)
        assert not in_flight.is_any()


@pytest.mark.parametrize("error", [ModelLoadError("the reason"), MemoryError("the reason")])
def test_failed_load_waits_until_its_log_is_read(
    model_root: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Multi-model-server reads no more of a process that has answered that its load failed."""

    def fail(*_: object) -> None:
        raise error

    refused: list[tuple[object, ...]] = []
    monkeypatch.setattr(handler, "_LOG_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(handler.Worker, "load", fail)
    monkeypatch.setattr(unregister, "when_refused", lambda *given: refused.append(given))
    reader, writer = os.pipe()
    with (
        os.fdopen(reader, "rb") as log,
        os.fdopen(writer, "w") as output,
        ThreadPoolExecutor(1) as pool,
    ):
        monkeypatch.setattr(sys, "stdout", output)
        loading = pool.submit(handler.handle, None, Context(model_root))
        assert select.select([log], [], [], PATIENCE_SECONDS)[0]

        with pytest.raises(TimeoutError):
            loading.result(0.1)
        assert not refused  # its time limit has not begun
        assert b"the reason" in log.readline()
        with pytest.raises(type(error), match="the reason"):
            loading.result(PATIENCE_SECONDS)
        assert len(refused) == isinstance(error, MemoryError)
