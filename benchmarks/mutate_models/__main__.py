"""Load thousands of damaged models into a running multi-model server, and invoke those it takes.

    python -m benchmarks.mutate_models --count 5000 --seed 1

Fails where a worker dies, the answers of a sound neighbour change, a reply has a status of 5xx
other than 507, or memory stays when all models are gone. Models that made it fail are kept.
"""

import argparse
import contextlib
import http.client
import io
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.harness.running import exit_at_sigterm
from benchmarks.harness.servers import ROOT
from benchmarks.mutate_models import model_mutations
from local_test import invoke
from local_test.backends import ProcessBackend
from local_test.ml_tree import MlTree
from local_test.programs import RunningServer

OUTPUT_DIR = ROOT / "build" / "mutated-models"
_NEIGHBOUR = "neighbour"
_N_CLIENTS = 4
_REQUEST_SECONDS = 120.0
_MAX_GROWTH_BYTES = 32 * 2**20
_WARM_UP = 200  # models after which memory is looked at first
_REPORT_EVERY = 250


@dataclass
class Server:
    """A server of many models with two workers, and its directory in the place of /opt/ml."""

    directory: Path
    program: RunningServer

    def request(
        self, method: str, route: str, body: bytes = b"", content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        response = invoke.send(
            self.program.url,
            method,
            route,
            body,
            headers={"Content-Type": content_type},
            timeout_seconds=_REQUEST_SECONDS,
        )
        return response.status, response.body

    def load(self, name: str, content: bytes) -> tuple[int, bytes]:
        directory = self.directory / "models" / name
        directory.mkdir(parents=True)
        (directory / "xgboost-model").write_bytes(content)
        return self.request(
            "POST", "/models", json.dumps({"model_name": name, "url": str(directory)}).encode()
        )

    def workers(self) -> set[int]:
        """Process ids of the workers."""
        main = self.program.process_id
        children = f"/proc/{main}/task/{main}/children"
        found = set()
        for process_id in map(int, Path(children).read_text().split()):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{process_id}/comm").read_text().strip() != "fork-server":
                    found.add(process_id)
        return found

    def anonymous_bytes(self) -> int:
        """Memory of the workers' own."""
        total = 0
        for process_id in self.workers():
            words = Path(f"/proc/{process_id}/status").read_text().split()
            total += int(words[words.index("RssAnon:") + 1]) * 1024
        return total


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """Start a server on a free port, and stop it."""
    with tempfile.TemporaryDirectory(prefix="mutated-models-") as directory:
        (Path(directory) / "models").mkdir()
        environment = {"SAGEMAKER_MULTI_MODEL": "true", "SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
        with ProcessBackend().start_server(
            MlTree(Path(directory)), environment=environment
        ) as program:
            yield Server(Path(directory), program)


def bodies() -> list[tuple[str, bytes]]:
    """Requests of many records, dense and sparse, with missing cells and extremes."""
    random = np.random.default_rng(7)
    records = random.normal(size=(300, model_mutations.N_FEATURES)).astype(np.float32)
    records[::7] *= 1e30
    records[random.random(records.shape) < 0.2] = np.nan
    many = np.resize(records, (3000, model_mutations.N_FEATURES))
    npy = io.BytesIO()
    np.save(npy, many)
    text = "\n".join(",".join("" if np.isnan(x) else str(x) for x in row) for row in records)
    sparse = "\n".join(
        "0 " + " ".join(f"{i}:{x}" for i, x in enumerate(row) if not np.isnan(x)) for row in records
    )
    return [
        ("text/csv", text.encode()),
        ("text/csv", text.splitlines()[0].encode()),
        ("text/libsvm", sparse.encode()),
        ("application/x-npy", npy.getvalue()),
    ]


@dataclass
class Run:
    """State and findings of one run."""

    server: Server
    output_dir: Path
    sound: dict[str, bytes]
    seed: int
    statuses: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    bodies: list[tuple[str, bytes]] = field(default_factory=bodies)

    def __post_init__(self) -> None:
        status, reply = self.server.load(_NEIGHBOUR, self.sound["softprob.ubj"])
        if status != 200:
            raise SystemExit(f"the sound model was not loaded: {reply!r}")
        self.workers = self.server.workers()
        self.expected = self.answers()

    def answers(self) -> list[tuple[int, bytes]]:
        """Return the answers of the neighbour model, one for each body."""
        return [
            self.server.request("POST", f"/models/{_NEIGHBOUR}/invoke", body, content_type)
            for content_type, body in self.bodies
        ]

    def try_one(self, index: int) -> None:
        """Load one damaged model, invoke and unload it, and look whether all is well."""
        random = np.random.default_rng([self.seed, index])
        kind = list(self.sound)[index % len(self.sound)]
        deed, content = model_mutations.mutated(self.sound[kind], random)
        name = f"m{index}"
        try:
            problem = self._outcome(name, content)
        except (OSError, http.client.HTTPException) as error:
            problem = f"no reply: {error!r}"
        shutil.rmtree(self.server.directory / "models" / name, ignore_errors=True)
        if self.server.workers() != self.workers:
            problem = f"a worker died; {problem or ''}"
            self.workers = self.server.workers()
        if problem:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            (self.output_dir / f"{self.seed}-{index}").write_bytes(content)
            self.problems.append(f"{index} ({kind}, {deed}): {problem}")
            print(f"PROBLEM {self.problems[-1]}", flush=True)

    def _outcome(self, name: str, content: bytes) -> str | None:
        status, reply = self.server.load(name, content)
        crashed = " after a crash of its validation run" if b"crashed the process" in reply else ""
        self.statuses[f"load {status}{crashed}"] += 1
        if status != 200:
            return f"load: {status} {reply!r}" if status >= 500 and status != 507 else None
        problem = None
        for content_type, body in self.bodies:
            status, reply = self.server.request(
                "POST", f"/models/{name}/invoke", body, content_type
            )
            self.statuses[f"invoke {status}"] += 1
            if status >= 500 and status != 507:
                problem = f"invoke with {content_type}: {status} {reply[:300]!r}"
        status, reply = self.server.request("DELETE", f"/models/{name}")
        if status != 200:
            problem = f"unload: {status} {reply!r}"
        if self.answers() != self.expected:
            problem = f"the answers of the neighbour have changed; {problem or ''}"
        return problem

    def run(self, count: int) -> None:
        """Load and invoke damaged models, several at a time."""
        first_bytes = 0
        with ThreadPoolExecutor(_N_CLIENTS) as pool:
            done = 0
            while done < count:
                size = min(_WARM_UP if done < _WARM_UP else _REPORT_EVERY, count - done)
                list(pool.map(self.try_one, range(done, done + size)))
                done += size
                n_bytes = self.server.anonymous_bytes()
                first_bytes = first_bytes or n_bytes
                seen = ", ".join(f"{n} {name}" for name, n in sorted(self.statuses.items()))
                print(f"{done} models, {n_bytes / 2**20:.1f} MiB: {seen}", flush=True)
        growth = self.server.anonymous_bytes() - first_bytes
        if growth > _MAX_GROWTH_BYTES:
            self.problems.append(f"memory grew by {growth / 2**20:.1f} MiB")


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code."""
    exit_at_sigterm()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mutate_models", description=str(__doc__).partition("\n")[0]
    )
    parser.add_argument("--count", type=int, default=500, metavar="N", help="models (500)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the damage (1)")
    parser.add_argument("--output", type=Path, default=OUTPUT_DIR, metavar="DIR")
    given = parser.parse_args(arguments)
    with running() as server:
        run = Run(server, given.output, model_mutations.sound_models(), given.seed)
        run.run(given.count)
        if run.problems:
            (given.output / "log").write_text(server.program.output())
    for problem in run.problems:
        print(problem)
    print(f"{given.count} models, {len(run.problems)} problems")
    return 1 if run.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
