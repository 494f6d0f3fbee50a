"""``python -m benchmarks``: measures the servers and writes a report."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import environments
from benchmarks.harness.environments import HARNESS_REQUIREMENTS, SetupError
from benchmarks.harness.load import LoadError
from benchmarks.harness.model_files import Questions, small_model
from benchmarks.harness.running import ServerError, exit_at_sigterm, running
from benchmarks.harness.servers import ROOT, Role, Server, all_servers
from benchmarks.serving import bursts, report, sharing, soak, targets
from benchmarks.serving.comparison import RESULTS_FILE, Comparison, Options
from benchmarks.serving.results import Results, Sharing

OUTPUT_DIR = ROOT / "build" / "bench"
QUICK = Options(seconds=1, repetitions=1)
FULL = Options()
_BURST_SECONDS = 8
_VERDICTS = {True: "met", False: "MISSED", None: "not measured"}


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code."""
    exit_at_sigterm()
    given = _parser().parse_args(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    try:
        environments.install_programs(["wrk"])
        if given.soak:
            return _soak(given.output, given.soak)
        if given.bursts:
            return _bursts(given.output, given.seconds or _BURST_SECONDS)
        return _compare(given)
    except (SetupError, ServerError, LoadError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: interrupted; every server was stopped", file=sys.stderr)
        return 130


def _compare(given: argparse.Namespace) -> int:
    servers = all_servers()
    chosen = [servers[name] for name in given.servers or servers]
    results = Comparison(chosen, _options(given), given.output).run()
    if not given.quick and not given.no_big_model and any(map(_is_ours, chosen)):
        results.sharing = _sharing(servers, given.output)
    results.write(given.output / RESULTS_FILE)
    (given.output / "report.md").write_text(report.render(results))
    (given.output / report.POINTS_FILE).write_text(report.points_csv(results))
    draw("serving.comparison_plot", given.output, RESULTS_FILE, report.PLOT_FILE)
    _print_targets(results)
    print(f"bench: report.md, results.json, points.csv and plot.png are in {given.output}")
    return 1 if any(s.problem for s in results.subjects if s.role == Role.OURS) else 0


def _sharing(servers: dict[str, Server], output_dir: Path) -> Sharing | None:
    """Measure the big model; a failure here keeps the other results."""
    print("bench: a 500 MB model, four workers (trained in minutes when it is missing)", flush=True)
    ours = servers["ours"]
    environment_dir = ours.environment_dir(output_dir / "envs")
    try:
        return sharing.measure(
            ours, environment_dir=environment_dir, models_dir=output_dir / "models"
        )
    except (SetupError, ServerError, LoadError) as error:
        print(f"bench: not measured: {error}", flush=True)
        return None


def _soak(output_dir: Path, minutes: float) -> int:
    server = all_servers()["ours"]
    model_dir = small_model(output_dir / "models")
    questions = Questions(model_dir, FULL.row_counts)
    with running(
        server,
        questions,
        environment_dir=server.environment_dir(output_dir / "envs"),
        model_dir=model_dir,
    ) as started:
        found = soak.run(started, questions, seconds=minutes * 60)
        started.check(questions)
    found.write(output_dir)
    draw("serving.soak_plot", output_dir, "soak.json", "soak.png")
    print(soak.render(found))
    print(f"bench: soak.md, soak.json and soak.png are in {output_dir}")
    return 0


def _bursts(output_dir: Path, seconds: float) -> int:
    server = all_servers()["ours"]
    model_dir = small_model(output_dir / "models")
    questions = Questions(model_dir, (bursts.N_ROWS,))
    found = []
    for n_connections in bursts.CONNECTIONS:
        with running(
            server,
            questions,
            environment_dir=server.environment_dir(output_dir / "envs"),
            model_dir=model_dir,
        ) as started:
            found.append(bursts.run(started, questions, n_connections, seconds=seconds))
            started.wait_until_quiet()  # those that have gone are still answered
            started.check(questions)
    bursts.write(found, output_dir)
    print(bursts.render(found))
    print(f"bench: bursts.md and bursts.json are in {output_dir}")
    return 0


def draw(module: str, output_dir: Path, data_file: str, image_file: str) -> None:
    """Run a module of plots on files of the directory, in the environment that has matplotlib."""
    environment_dir = output_dir / "envs" / "harness"
    environments.make(environment_dir, HARNESS_REQUIREMENTS)
    files = [str(output_dir / data_file), str(output_dir / image_file)]
    command = [str(environment_dir / "bin" / "python"), "-m", f"benchmarks.{module}", *files]
    subprocess.run(command, cwd=ROOT, check=True)


def _print_targets(results: Results) -> None:
    for verdict in targets.judge(results):
        print(
            f"bench: {verdict.subject}: {verdict.measured}; target {verdict.target}"
            f" ({verdict.best_peer}): {_VERDICTS[verdict.is_met]}"
        )


def _options(given: argparse.Namespace) -> Options:
    default = QUICK if given.quick else FULL
    return Options(
        row_counts=given.rows or default.row_counts,
        connections=given.connections or default.connections,
        seconds=given.seconds or default.seconds,
        repetitions=given.repetitions or default.repetitions,
    )


def _is_ours(server: Server) -> bool:
    return server.role == Role.OURS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure this server beside its peers, in one run on this machine. The first"
        " run makes their environments; a full one takes less than half an hour on two CPUs.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="one repetition of one second; less than 3 minutes")
    add("--servers", type=_names, metavar="A,B", help=f"of: {', '.join(all_servers())}")
    add("--rows", type=_numbers, metavar="N,N", help="rows in a request (1,100,1000)")
    add("--connections", type=_numbers, metavar="N,N", help="open at a time (1,8,64)")
    add("--seconds", type=_number, metavar="N", help="of each measurement (3)")
    add("--repetitions", type=_number, metavar="N", help="rounds over all servers (5)")
    add("--no-big-model", action="store_true", help="leave out the 500 MB model")
    add(
        "--soak",
        type=float,
        metavar="MINUTES",
        help="instead of comparing: full load on this server for so long, and whether it grows",
    )
    add(
        "--bursts",
        action="store_true",
        help="instead of comparing: hundreds of connections at once on this server, and its pings",
    )
    add("--output", type=_directory, default=OUTPUT_DIR, metavar="DIR", help="(build/bench)")
    return parser


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = set(names) - all_servers().keys()
    if unknown:
        raise argparse.ArgumentTypeError(f"no such server: {', '.join(sorted(unknown))}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(map(_number, text.split(","))))


def _directory(text: str) -> Path:
    return Path(text).absolute()


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
