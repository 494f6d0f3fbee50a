"""Batch transform and pipelines from outside: advice, newlines, selected outputs, what follows."""

import csv
import io
import json
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xgboost

from local_test.backends import Backend
from local_test.datasets import TabularDataset
from local_test.invoke import Response, invoke, send
from local_test.ml_tree import MlTree
from local_test.outcomes import ServerStartError
from local_test.programs import RunningServer
from tests.blackbox.conftest import Trained

Post = Callable[..., Response]


def _advice(server: RunningServer) -> dict[str, object]:
    response = send(server.url, "GET", "/execution-parameters")
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"
    advice: dict[str, object] = json.loads(response.body)
    return advice


@pytest.mark.canary
def test_execution_parameters_advise_the_platform(server: RunningServer) -> None:
    """An integer, a string and an integer, by their exact names (C-069)."""
    assert _advice(server) == {
        "MaxConcurrentTransforms": 2,
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": 6,
    }


def test_as_many_transforms_as_advised_are_answered(
    server: RunningServer, cancer: TabularDataset
) -> None:
    """Answers them all at once, each of the advised size, several times (C-077)."""
    advice = _advice(server)
    n_bytes = int(str(advice["MaxPayloadInMB"])) * 2**20
    n_clients = int(str(advice["MaxConcurrentTransforms"]))
    lines = cancer.payload.splitlines(keepends=True)
    body = b"".join(lines * (n_bytes // len(cancer.payload)))

    with ThreadPoolExecutor(n_clients) as clients:
        replies = list(clients.map(lambda _: invoke(server.url, body), range(2 * n_clients)))

    assert [reply.status for reply in replies] == [200] * len(replies)
    assert {reply.body.count(b"\n") for reply in replies} == {body.count(b"\n")}


def test_batch_transform_is_known_in_any_case(
    backend: Backend, trained: Trained, cancer: TabularDataset
) -> None:
    """Every answer ends with a newline then, JSON too (C-071, C-073)."""
    with backend.start_server(trained.ml, environment={"SAGEMAKER_BATCH": "True"}) as server:
        answers = {
            accept: invoke(server.url, cancer.payload, accept=accept).body
            for accept in ("text/csv", "application/json", "application/jsonlines")
        }

    assert all(answer.endswith(b"\n") for answer in answers.values())
    assert answers["application/json"].count(b"\n") == 1
    assert answers["application/jsonlines"].count(b"\n") == 114


def test_one_bad_record_fails_its_mini_batch(post: Post, cancer: TabularDataset) -> None:
    """Nothing of it is answered, and the line is named (C-076)."""
    lines = (cancer.payload * 9).splitlines()[:1000]
    lines[776] = lines[776].replace(b",", b";", 1)

    response = post(b"\n".join(lines))

    assert response.status == 400
    assert json.loads(response.body)["error"]["message"].startswith("line 777: ")


KEYS = ("predicted_label", "labels", "probability", "probabilities", "raw_score", "raw_scores")


@pytest.fixture(scope="module")
def selecting(backend: Backend, trained: Trained) -> Iterator[RunningServer]:
    """A server that answers with every key that the objective has, and one that it has not."""
    keys = " , ".join((*KEYS, "Predicted_Score"))
    with backend.start_server(
        trained.ml, environment={"SAGEMAKER_INFERENCE_OUTPUT": keys}
    ) as server:
        yield server


def _assert_selected(records: list[dict[str, object]], expected: np.ndarray) -> None:
    assert len(records) == len(expected)
    for record, p in zip(records, expected.tolist(), strict=True):
        assert tuple(record) == (*KEYS, "predicted_score")
        assert record["predicted_label"] == int(p > 0.5)
        assert record["labels"] == [0, 1]
        for key in ("probability", "raw_score"):
            assert record[key] == pytest.approx(p, abs=1e-6)
        for key in ("probabilities", "raw_scores"):
            assert record[key] == pytest.approx([1 - p, p], abs=1e-6)


@pytest.mark.canary
@pytest.mark.parametrize("accept", ["application/json", "application/jsonlines", "text/csv"])
def test_selected_outputs_replace_the_score(
    selecting: RunningServer,
    trained: Trained,
    cancer: TabularDataset,
    features: np.ndarray,
    accept: str,
) -> None:
    """Every key in the order asked for; one that the objective lacks has no value (C-099)."""
    response = invoke(selecting.url, cancer.payload, accept=accept)

    assert response.status == 200
    assert response.headers["Content-Type"] == accept
    if accept == "text/csv":
        rows = list(csv.reader(io.StringIO(response.text)))
        assert {row[-1] for row in rows} == {"nan"}
        records = [dict(zip(KEYS, map(json.loads, row[:-1]), strict=True)) for row in rows]
        for record in records:
            record["predicted_score"] = None
    elif accept == "application/json":
        records = json.loads(response.body)["predictions"]
    else:
        records = [json.loads(line) for line in response.body.splitlines()]
    assert all(record["predicted_score"] is None for record in records)
    _assert_selected(records, trained.expected(features))


def test_selected_outputs_in_recordio(
    selecting: RunningServer, trained: Trained, cancer: TabularDataset, features: np.ndarray
) -> None:
    """Float32 tensors in the map `label`, one record a prediction (C-099)."""
    response = invoke(selecting.url, cancer.payload, accept="application/x-recordio-protobuf")

    assert response.headers["Content-Type"] == "application/x-recordio-protobuf"
    tensors = [_label_tensors(record) for record in _recordio(response.body)]
    assert len(tensors) == 114
    for tensor, p in zip(tensors, trained.expected(features).tolist(), strict=True):
        assert tensor["predicted_label"] == [float(p > 0.5)]
        assert tensor["labels"] == [0, 1]
        assert tensor["probability"] == pytest.approx([p], abs=1e-6)
        assert tensor["probabilities"] == pytest.approx([1 - p, p], abs=1e-6)


def _recordio(content: bytes) -> Iterator[bytes]:
    """Magic, length, payload, padding to four bytes (MXNet's RecordIO)."""
    position = 0
    while position < len(content):
        magic, length = struct.unpack_from("<II", content, position)
        assert magic == 0xCED7230A
        yield content[position + 8 : position + 8 + length]
        position += 8 + length + -length % 4


def _label_tensors(record: bytes) -> dict[str, list[float]]:
    """Field 2 of `aialgs.data.Record`: map<string, Value>, Value.float32_tensor = 2, values = 1."""
    tensors = {}
    for number, entry in _fields(record):
        if number == 2:
            parts = dict(_fields(entry))
            value = dict(_fields(parts[2]))
            packed = dict(_fields(value[2]))[1]
            tensors[parts[1].decode()] = list(struct.unpack(f"<{len(packed) // 4}f", packed))
    return tensors


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a protobuf message."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        assert key & 7 == 2, "every field of these messages is length-delimited"
        length, position = _varint(message, position)
        yield key >> 3, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position


@pytest.mark.docker_cases(0)
def test_unknown_output_is_refused_at_start(backend: Backend, trained: Trained) -> None:
    """A misspelt key is no column of NaN (C-099)."""
    with pytest.raises(ServerStartError) as caught:
        backend.start_server(trained.ml, environment={"SAGEMAKER_INFERENCE_OUTPUT": "probabilty"})

    assert "SAGEMAKER_INFERENCE_OUTPUT='probabilty'" in caught.value.output
    assert "predicted_label, labels, probability" in caught.value.output


@pytest.fixture(scope="module")
def successor(
    backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningServer, xgboost.Booster]]:
    """The next container of a pipeline: a model of the one score that comes before."""
    scores = np.linspace(0, 1, 200, dtype=np.float32).reshape(-1, 1)
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(scores, scores[:, 0] ** 2), 5)
    ml = MlTree(tmp_path_factory.mktemp("successor") / "ml").create()
    (ml.model_dir / "xgboost-model").write_bytes(booster.save_raw("ubj"))
    with backend.start_server(ml) as server:
        yield server, booster


@pytest.mark.parametrize("parameters", ["", "; charset=utf-8", ";charset=UTF-8; header=absent"])
def test_answer_of_one_container_is_the_request_of_the_next(
    server: RunningServer,
    successor: tuple[RunningServer, xgboost.Booster],
    trained: Trained,
    cancer: TabularDataset,
    features: np.ndarray,
    parameters: str,
) -> None:
    """Accepts it with its content type and without the client's headers (C-093)."""
    following, booster = successor
    answer = invoke(server.url, cancer.payload)

    last = invoke(
        following.url, answer.body, content_type=answer.headers["Content-Type"] + parameters
    )

    assert last.status == 200, last.text
    scores = trained.expected(features).reshape(-1, 1)
    np.testing.assert_allclose(
        np.array(last.text.split(), dtype=np.float32),
        booster.predict(xgboost.DMatrix(scores)),
        atol=1e-6,
    )


def test_answer_without_content_type_is_read_as_the_default(
    successor: tuple[RunningServer, xgboost.Booster],
) -> None:
    """Libsvm, as AWS's XGBoost container has it; and no other header at all (C-093)."""
    following, booster = successor

    last = invoke(following.url, b"0:0.25\n0:0.75\n", content_type=None)

    expected = booster.predict(xgboost.DMatrix(np.array([[0.25], [0.75]], dtype=np.float32)))
    np.testing.assert_allclose([float(line) for line in last.text.split()], expected, atol=1e-6)
