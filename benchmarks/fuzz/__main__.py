"""Fuzzes this server: ``python -m benchmarks.fuzz --minutes 60 --seed 1``."""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzz import run
from benchmarks.fuzz.bodies import Body, valid_bodies
from benchmarks.fuzz.run import Results
from benchmarks.harness.model_files import Questions, small_model
from benchmarks.harness.running import Running, exit_at_sigterm, running
from benchmarks.harness.servers import ROOT, all_servers
from benchmarks.serving.report import table
from local_test import invoke

OUTPUT_DIR = ROOT / "build" / "fuzz"
_MODELS_DIR = ROOT / "build" / "bench" / "models"
_START_SECONDS = 60.0
_N_WORKERS = 2  # as `benchmarks/ours/server.toml` has them


class BadStartError(Exception):
    """The server does not answer valid bodies."""


@dataclass(frozen=True, slots=True)
class _Server:
    """The server, as the fuzzer watches it."""

    started: Running

    @property
    def url(self) -> str:
        return self.started.url

    def processes(self) -> set[int]:
        return set(self.started.process.process_ids())

    def output_tail(self, n_bytes: int) -> str:
        descriptor = self.started.process.output_file.fileno()
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, n_bytes, max(0, size - n_bytes)).decode(errors="replace")

    def forget_output(self, *, beyond_bytes: int) -> None:
        if os.fstat(self.started.process.output_file.fileno()).st_size > beyond_bytes:
            self.started.forget_output()


def main(arguments: Sequence[str]) -> int:
    """Fuzz and return 0 where nothing was found, else 1."""
    exit_at_sigterm()
    given = _parser().parse_args(arguments)
    shutil.rmtree(given.output, ignore_errors=True)
    given.output.mkdir(parents=True)
    server = all_servers()["ours"]
    model_dir = small_model(_MODELS_DIR)
    questions = Questions(model_dir, (1,))
    bodies = [
        body
        for body in valid_bodies(len(questions.rows(1)[0]))
        if given.types is None or body.kind.removesuffix("+gzip") in given.types
    ]
    if not bodies:
        raise SystemExit(f"fuzz: no body is of the types {', '.join(given.types)}")
    environment_dir = server.environment_dir(ROOT / "build" / "bench" / "envs")
    with running(
        server, questions, environment_dir=environment_dir, model_dir=model_dir
    ) as started:
        target = _Server(started)
        workers = _workers(target)
        _check(target.url, bodies)
        results = run.run(
            target,
            bodies,
            given.output,
            workers=workers,
            seconds=given.minutes * 60,
            seed=given.seed,
            n_clients=given.clients,
        )
    text = render(results, seconds=given.minutes * 60, seed=given.seed)
    (given.output / "fuzz.md").write_text(text)
    print(text)
    print(f"fuzz: fuzz.md and offending bodies are in {given.output}")
    return 1 if results.findings else 0


def _workers(target: _Server) -> set[int]:
    """Wait until all workers run, and return them with their parent."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        # The process that answers until a worker can has ended by then.
        if len(found := target.processes()) == _N_WORKERS + 1:
            return found
        time.sleep(0.1)
    raise BadStartError(f"there are processes {sorted(target.processes())}, not {_N_WORKERS + 1}")


def _check(url: str, bodies: Sequence[Body]) -> None:
    """Send every valid body once: mutations of a body that is refused would show nothing.

    Raises:
        BadStartError: the server refuses one.
    """
    for body in bodies:
        answer = invoke.invoke(
            url, body.data, content_type=body.content_type, headers=body.headers, timeout_seconds=60
        )
        if answer.status != 200:
            raise BadStartError(f"a valid body of {body.kind} is {answer.status}: {answer.body!r}")


def render(results: Results, *, seconds: float, seed: int) -> str:
    """Render the requests sent and the faults found, in Markdown."""
    statuses = sorted({status for counts in results.statuses.values() for status in counts})
    lines = [
        [kind, f"{sum(counts.values()):,}", *(f"{counts[status]:,}" for status in statuses)]
        for kind, counts in sorted(results.statuses.items())
    ]
    an_hour, _ = results.growth(seconds)
    levels = [rss / 1e6 for _, rss in results.memory] or [0.0]
    title = f"{results.n_sent:,} bodies in {seconds / 60:g} min, seed {seed}"
    facts = [
        f"Processes beside the workers, decoders mostly: {results.n_decoders}.",
        f"Slowest ping: {results.slowest_ping_seconds:.2f} s.",
        f"RSS of the workers: {levels[0]:.1f} MB at first, {max(levels):.1f} at most;"
        f" as a rule {an_hour / 1e6:+.1f} MB an hour.",
        f"Findings: {len(results.findings)}.",
        *(f"- {finding.reason}" for finding in results.findings),
    ]
    return table([title, "sent", *map(str, statuses)], lines) + "\n\n" + "\n".join(facts) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz",
        description="Start this server in process mode, send it mutated bodies of every content"
        " type, and fail when a worker dies, an answer is a 5xx other than 503 and 507, a ping is"
        " not answered, or memory keeps growing. Offending bodies are saved.",
    )
    add = parser.add_argument
    add("--minutes", type=_positive, default=10.0, metavar="N", help="how long (10)")
    add("--seed", type=int, default=1, metavar="N", help="other seeds make other bodies (1)")
    add("--clients", type=int, default=8, metavar="N", help="bodies in hand at once (8)")
    add("--types", type=_names, metavar="A,B", help="of: csv, libsvm, json, jsonlines, npy, npz,"
        " parquet, recordio (all)")  # fmt: skip
    add("--output", type=_directory, default=OUTPUT_DIR, metavar="DIR", help="(build/fuzz)")
    return parser


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of minutes")
    return number


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _directory(text: str) -> Path:
    return Path(text).absolute()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
