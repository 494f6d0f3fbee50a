"""Checks of an algorithm from outside: does it keep the contract, from training to many models?

Each check trains or serves as the platform does, and looks at files and answers only, so it says
the same of an algorithm in any language. The records that are sent are those of ``payload.csv`` in
the tree, else the ``example`` in the model's manifest.
"""

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_test.backends import Backend
from local_test.invoke import Response, invoke, send
from local_test.ml_tree import MlTree
from local_test.outcomes import BackendError, EndedBy
from local_test.programs import RunningServer

MANIFEST = "byoa-manifest.json"
PAYLOAD = "payload.csv"
MAX_RECORDS = 20
N_THREADS, N_REQUESTS = 8, 40
N_RELOADS = 3
CSV, JSON = "text/csv", "application/json"


class CheckError(Exception):
    """A clause is not kept; the message says what was expected and what was found."""


@dataclass(slots=True)
class Check:
    """The state that the checks of one algorithm share."""

    backend: Backend
    ml: MlTree
    scratch: Path
    environment: Mapping[str, str]
    files: dict[str, bytes] = field(default_factory=dict)
    records: list[list[Any]] = field(default_factory=list)
    answer: bytes = b""  # to all records, from a server of one model

    def server(self, ml: MlTree | None = None, **variables: str) -> RunningServer:
        """Start a server of one worker."""
        environment = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"} | dict(self.environment) | variables
        return self.backend.start_server(ml or self.ml, environment=environment)

    def payload(self) -> bytes:
        """All records as CSV."""
        return as_csv(self.records)


def run(
    backend: Backend, ml: MlTree, scratch: Path, environment: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield the clause and the problem of each check, in order; no problem is an empty text.

    Args:
        backend: How the programs run.
        ml: A tree with the input of a job. Its ``model/`` and ``output/`` are replaced.
        scratch: An empty directory for further trees.
        environment: Variables for all programs.
    """
    check = Check(backend, ml, scratch, environment)
    for clause, examine in CHECKS:
        try:
            examine(check)
        except (CheckError, BackendError, OSError, ValueError) as error:
            yield clause, str(error) or type(error).__name__
            if not check.files:  # without a model nothing else can be said
                return
        else:
            yield clause, ""


def as_csv(records: list[list[Any]]) -> bytes:
    """Write records, one a line; None is an empty cell."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(records)
    return stream.getvalue().encode()


def _trains(check: Check) -> None:
    check.ml.empty_outputs()
    finished = check.backend.run_training(check.ml, environment=check.environment)
    if finished.exit_code != 0:
        reason = check.ml.failure_reason() or "there is no failure file"
        raise CheckError(f"exit code {finished.exit_code}: {reason}")
    if not check.ml.model_files():
        raise CheckError("exit code 0, and model/ is empty")
    check.files = _contents(check.ml)
    check.records = _records(check.ml)


def _trains_again(check: Check) -> None:
    again = _copy(check, "again")
    again.empty_outputs()
    check.backend.run_training(again, environment=check.environment)
    files = _contents(again)
    differing = sorted(
        name
        for name in check.files.keys() | files.keys()
        if check.files.get(name) != files.get(name)
    )
    if differing:
        raise CheckError(
            f"a second job on the same data left other bytes in {', '.join(differing)}: fix seeds, "
            "and leave out times and names of hosts"
        )


def _stops_when_told(check: Check) -> None:
    stopped_tree = _copy(check, "stopped")
    stopped_tree.empty_outputs()
    program = check.backend.start_training(stopped_tree, environment=check.environment)
    stopped = program.stop()
    if stopped.ended_by is EndedBy.SIGKILL:
        raise CheckError(f"training went on for {stopped.duration_seconds:.0f} s after SIGTERM")


def _answers(check: Check) -> None:
    with check.server() as server:
        check.answer = _expect(invoke(server.url, check.payload(), accept=JSON), 200).body
        n_answers = len(_predictions(check.answer))
        if n_answers != len(check.records):
            raise CheckError(f"{n_answers} predictions for {len(check.records)} records")
        one = _expect(invoke(server.url, as_csv(check.records[:1]), accept=JSON), 200).body
        if _predictions(one) != _predictions(check.answer)[:1]:
            raise CheckError("a record has another answer alone than among others")
        as_json = json.dumps({"instances": [{"features": each} for each in _typed(check)]}).encode()
        response = invoke(server.url, as_json, content_type=JSON, accept=JSON)
        if _expect(response, 200).body != check.answer:
            raise CheckError("the same records have another answer as JSON than as CSV")


def _refuses(check: Check) -> None:
    first = check.records[0]
    bad = {
        "a record with one column more": (as_csv([[*first, 1, 1]]), CSV),
        "a record with one column only": (as_csv([first[:1]]), CSV) if len(first) > 1 else None,
        "text that is not JSON": (b"[[1, ", JSON),
        "a content type that nothing reads": (b"x", "application/x-no-such-type"),
    }
    with check.server() as server:
        for what, request in bad.items():
            if request is None:
                continue
            response = invoke(server.url, request[0], content_type=request[1])
            if not 400 <= response.status < 500:
                raise CheckError(f"{what}: status {response.status}, expected 4xx")
        if invoke(server.url, b"").status >= 500:
            raise CheckError("an empty body: a status of 500 or more")
        if _expect(invoke(server.url, check.payload(), accept=JSON), 200).body != check.answer:
            raise CheckError("after bad requests the good one has another answer")


def _answers_many_at_once(check: Check) -> None:
    with check.server() as server, ThreadPoolExecutor(N_THREADS) as threads:

        def ask(_: int) -> Response:
            return invoke(server.url, check.payload(), accept=JSON)

        responses = list(threads.map(ask, range(N_REQUESTS)))
    for response in responses:
        if response.status not in (200, 503):
            raise CheckError(f"one of {N_REQUESTS} requests at once: status {response.status}")
        if response.status == 200 and response.body != check.answer:
            raise CheckError("requests at once have other answers than one alone")


def _stops_serving(check: Check) -> None:
    server = check.server()
    if invoke(server.url, check.payload(), accept=JSON).body != check.answer:
        server.close()
        raise CheckError("another server of the same model has other answers")
    stopped = server.stop()
    if stopped.exit_code != 0:
        raise CheckError(f"the server ended with exit code {stopped.exit_code} after SIGTERM")


def _is_one_of_many(check: Check) -> None:
    tree = MlTree(check.scratch / "many").create()
    names = ("first", "second")
    for name in names:
        shutil.copytree(check.ml.model_dir, tree.root / "models" / name)
    with check.server(tree, SAGEMAKER_MULTI_MODEL="true") as server:
        for _ in range(N_RELOADS):
            for name in names:
                url = check.backend.path_inside(tree, tree.root / "models" / name)
                request = json.dumps({"model_name": name, "url": url}).encode()
                headers = {"Content-Type": JSON}
                _expect(send(server.url, "POST", "/models", request, headers=headers), 200)
            for name in names:
                headers = {"Content-Type": CSV, "Accept": JSON}
                route = f"/models/{name}/invoke"
                response = send(server.url, "POST", route, check.payload(), headers=headers)
                if _expect(response, 200).body != check.answer:
                    raise CheckError("one of many models has other answers than the only one")
                _expect(send(server.url, "DELETE", f"/models/{name}"), 200)


CHECKS: tuple[tuple[str, Callable[[Check], None]], ...] = (
    ("a job trains a model", _trains),
    ("the same job leaves the same bytes", _trains_again),
    ("a job stops when it is told to", _stops_when_told),
    ("a server answers every record, in every format alike", _answers),
    ("a bad request is refused, and the server lives", _refuses),
    ("requests at once have their own answers", _answers_many_at_once),
    ("another server has the same answers, and ends with 0", _stops_serving),
    ("many models load, answer and unload", _is_one_of_many),
)


def _copy(check: Check, name: str) -> MlTree:
    tree = MlTree(check.scratch / name)
    shutil.copytree(check.ml.root / "input", tree.root / "input")
    return tree


def _contents(ml: MlTree) -> dict[str, bytes]:
    return {name: (ml.model_dir / name).read_bytes() for name in ml.model_files()}


def _records(ml: MlTree) -> list[list[Any]]:
    """Return the records to send: those of the tree's payload, or the manifest's example."""
    payload = ml.root / PAYLOAD
    if payload.is_file():
        lines = payload.read_text("utf-8").splitlines()[:MAX_RECORDS]
        return [list(row) for row in csv.reader(lines)]
    manifest = ml.model_dir / MANIFEST
    described = json.loads(manifest.read_text("utf-8"))["model"] if manifest.is_file() else {}
    example = described.get("example") or [0] * int(described.get("n_features", 0))
    if not example:
        raise CheckError(f"no records to send: write some, without labels, into {payload.name}")
    return [[_varied(cell, index) for cell in example] for index in range(3)]


def _varied(cell: Any, index: int) -> Any:
    """Change a number, so that no two records are alike."""
    return cell * (index + 1) + index if isinstance(cell, int | float) else cell


def _typed(check: Check) -> list[list[Any]]:
    """Return the records with numbers as numbers, where the payload has them as text."""
    manifest = check.ml.model_dir / MANIFEST
    schema = None
    if manifest.is_file():
        schema = json.loads(manifest.read_text("utf-8"))["model"].get("records")
    kinds = [each["kind"] for each in schema["columns"]] if schema else None

    def typed(cell: Any, index: int) -> Any:
        is_text = kinds is not None and kinds[index] == "text"
        if not isinstance(cell, str) or is_text:
            return cell or None if is_text else cell
        return float(cell) if cell else None

    return [[typed(cell, index) for index, cell in enumerate(row)] for row in check.records]


def _predictions(body: bytes) -> list[Any]:
    try:
        return list(json.loads(body)["predictions"])
    except (ValueError, KeyError, TypeError):
        raise CheckError('the answer as JSON is not {"predictions": [...]}') from None


def _expect(response: Response, status: int) -> Response:
    if response.status != status:
        raise CheckError(f"status {response.status}, expected {status}: {response.text[:500]}")
    return response
