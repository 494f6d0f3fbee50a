"""``python -m benchmarks.multi_model``: measures many models in one server."""

import argparse
import datetime
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.__main__ import OUTPUT_DIR, draw
from benchmarks.harness import environments, machine
from benchmarks.harness.environments import SetupError
from benchmarks.harness.load import LoadError
from benchmarks.harness.running import ServerError, exit_at_sigterm
from benchmarks.multi_model import article, code, cycles, fleet_report, models, scale, warm
from benchmarks.multi_model.fleet_results import Results

PARTS = ("article", "resident", "crowded", "warm", "cycles", "code_cycles", "code")
ENGINES = ("gunicorn", "mms")
_ONLY_GUNICORN = ("crowded",)  # multi-model-server unloads nothing by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Sizes of the measurements."""

    models: int
    copies: int
    invocations: int
    cycles: int
    repetitions: int
    seconds: int


FULL = Options(models=10_000, copies=200, invocations=50_000, cycles=500, repetitions=7, seconds=3)
QUICK = Options(models=500, copies=40, invocations=4000, cycles=110, repetitions=1, seconds=1)
_MMS_MODELS = 20  # 40 MB and half a second each


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code."""
    exit_at_sigterm()
    given = _parser().parse_args(arguments)
    (given.output / "models").mkdir(parents=True, exist_ok=True)
    try:
        environments.install_programs(["wrk"])
        return _measure(given)
    except SetupError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: interrupted; every server was stopped", file=sys.stderr)
        return 130


def _measure(given: argparse.Namespace) -> int:
    """Measure part by part; a part that fails keeps the results of the others."""
    began = time.monotonic()
    results = Results(
        began=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        engine=given.engine,
        machine=dict(machine.facts()),
    )
    stem = f"multi_model_{given.engine}"
    n_failed = 0
    for part, measure in _parts_of(given).items():
        print(f"bench: {part} ...", flush=True)
        part_began, busy_before = time.monotonic(), machine.busy_seconds() - _own_seconds()
        try:
            setattr(results, part, measure())
        except (ServerError, LoadError) as error:
            print(f"bench: {part} was not measured: {error}", file=sys.stderr)
            n_failed += 1
        foreign = machine.busy_seconds() - _own_seconds() - busy_before
        results.foreign_cpus[part] = round(foreign / (time.monotonic() - part_began), 2)
        results.duration_seconds = time.monotonic() - began
        results.write(given.output / f"{stem}.json")
    for subject, target, measured, is_met in fleet_report.lines(results):
        print(f"bench: {subject}: {measured}; target {target}: {fleet_report.VERDICTS[is_met]}")
    (given.output / f"{stem}.md").write_text(fleet_report.render(results))
    if results.article or results.crowded or results.cycles or results.code_cycles:
        draw("multi_model.fleet_plot", given.output, f"{stem}.json", f"{stem}.png")
    print(f"bench: the files of {stem} are in {given.output}")
    return 1 if n_failed else 0


def _own_seconds() -> float:
    """CPU time of this process and of all that it has started and seen end."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _parts_of(given: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """Return the requested parts, or all that the engine supports, by the names of the results."""
    options, engine, models_dir = _options(given), given.engine, given.output / "models"
    parts: dict[str, Callable[[], object]] = {
        "article": lambda: article.measure(models.copies(models_dir, options.copies), engine),
        "resident": lambda: scale.measure_resident(
            models.small_models(models_dir, options.models), engine
        ),
        "crowded": lambda: scale.measure_crowded(
            models.small_models(models_dir, options.models), invocations=options.invocations
        ),
        "warm": lambda: warm.measure(
            models_dir, engine, repetitions=options.repetitions, seconds=options.seconds
        ),
        "cycles": lambda: cycles.measure(
            models.medium_model(models_dir), engine, count=options.cycles
        ),
        "code_cycles": lambda: cycles.measure(
            models.with_code(models_dir), engine, count=options.cycles
        ),
        "code": lambda: code.measure(
            models_dir,
            engine,
            count=options.copies,
            repetitions=options.repetitions,
            seconds=options.seconds,
        ),
    }
    left_out = () if engine == "gunicorn" else _ONLY_GUNICORN
    return {part: parts[part] for part in given.parts or PARTS if part not in left_out}


def _options(given: argparse.Namespace) -> Options:
    options = QUICK if given.quick else FULL
    if given.engine == "mms":
        options = replace(options, models=_MMS_MODELS, copies=_MMS_MODELS)
    return replace(options, models=given.models or options.models)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.multi_model",
        description="Measure many models in one server, over HTTP and from /proc. The first run"
        " makes the models; a full one takes about half an hour on two CPUs.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a twentieth of the models; a few minutes")
    add("--engine", choices=ENGINES, default="gunicorn", help="(gunicorn)")
    add("--parts", type=_parts, metavar="A,B", help=f"of: {', '.join(PARTS)}")
    add("--models", type=int, metavar="N", help="small models (10,000; mms: 20)")
    add("--output", type=_directory, default=OUTPUT_DIR, metavar="DIR", help="(build/bench)")
    return parser


def _parts(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = set(names) - set(PARTS)
    if unknown:
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(sorted(unknown))}")
    return names


def _directory(text: str) -> Path:
    return Path(text).absolute()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
