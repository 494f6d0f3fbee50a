"""The comparison itself: every server at every point, in rounds.

A round starts each server once, measures it at every point and stops it again, so only one runs at
a time and each has the machine to itself. The repetitions of a server lie a round apart, and every
round begins with another server: what else happens on the machine meets all of them.
"""

import datetime
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.harness import environments, machine
from benchmarks.harness.environments import SetupError
from benchmarks.harness.load import LoadError
from benchmarks.harness.model_files import Questions, small_model
from benchmarks.harness.running import Running, ServerError, running
from benchmarks.harness.servers import Server
from benchmarks.serving import measuring
from benchmarks.serving.results import Point, Results, Start, Subject

RESULTS_FILE = "results.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Points to measure, and the seconds and repetitions of each."""

    row_counts: tuple[int, ...] = (1, 100, 1000)
    connections: tuple[int, ...] = (1, 8, 64)
    seconds: int = 3
    repetitions: int = 5

    @property
    def points(self) -> list[Point]:
        return [Point(n_rows, n) for n_rows in self.row_counts for n in self.connections]


class Comparison:
    """One run over some servers.

    Args:
        directory: Environments and models are kept in it, and the results so far.
    """

    def __init__(self, servers: Sequence[Server], options: Options, directory: Path) -> None:
        self._options = options
        self._results_file = directory / RESULTS_FILE
        self._servers = list(servers)
        self._environments_dir = directory / "envs"
        self._model_dir = small_model(directory / "models")
        self._questions = Questions(self._model_dir, options.row_counts)
        self._problems: dict[str, str] = {}
        self._results = Results(
            began=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            machine=dict(machine.facts()),
            options=asdict(options),
        )

    def run(self) -> Results:
        """Measure; a server that fails is left out of the rest, with the reason.

        The results are written after every round: a run that is interrupted keeps what it has.
        """
        began = time.monotonic()
        environment_dirs = self._prepare()
        for repetition in range(1, self._options.repetitions + 1):
            able = [server for server in self._servers if server.name not in self._problems]
            first = (repetition - 1) % len(able) if able else 0
            for server in able[first:] + able[:first]:
                try:
                    self._measure(server, environment_dirs[server.name], repetition)
                except (ServerError, LoadError) as error:
                    self._leave_out(server, error)
            self._keep(repetition, time.monotonic() - began)
        return self._results

    def _keep(self, rounds: int, seconds: float) -> None:
        self._results.subjects = [self._subject(server) for server in self._servers]
        self._results.duration_seconds = seconds
        self._results.options["repetitions"] = rounds  # not those that are still to come
        self._results.write(self._results_file)

    def _prepare(self) -> dict[str, Path]:
        found = {}
        for server in self._servers:
            try:
                found[server.name] = environments.prepare(server, self._environments_dir)
            except SetupError as error:
                self._leave_out(server, error)
        return found

    def _measure(self, server: Server, environment_dir: Path, repetition: int) -> None:
        print(
            f"bench: round {repetition} of {self._options.repetitions}: {server.name} ",
            end="",
            flush=True,
        )
        with running(
            server, self._questions, environment_dir=environment_dir, model_dir=self._model_dir
        ) as started:
            started.check(self._questions)
            measuring.warm_up(started, self._questions)
            samples = []
            for sample in measuring.measure(
                started,
                self._questions,
                self._options.points,
                repetition=repetition,
                seconds=self._options.seconds,
            ):
                print(".", end="", flush=True)
                samples.append(sample)
            started.check(self._questions)
            start = _start(started, repetition)
        self._results.samples += samples
        self._results.starts.append(start)
        rates = [sample.requests_per_second for sample in samples]
        print(f" {min(rates):,.0f} to {max(rates):,.0f} requests/s", flush=True)

    def _leave_out(self, server: Server, error: Exception) -> None:
        self._problems[server.name] = str(error).partition("\n")[0]
        print(f"\nbench: {server.name} is left out: {error}", flush=True)

    def _subject(self, server: Server) -> Subject:
        return Subject(
            name=server.name,
            title=server.title,
            role=server.role,
            package=server.package,
            version=environments.locked_version(server),
            format=server.format.description,
            workers=server.workers,
            settings=server.settings,
            problem=self._problems.get(server.name, ""),
        )


def _start(started: Running, repetition: int) -> Start:
    footprint = started.footprint()
    return Start(
        server=started.server.name,
        repetition=repetition,
        seconds=started.start_seconds,
        pss_bytes=footprint.pss,
        processes=footprint.processes,
    )
