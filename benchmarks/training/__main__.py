"""``python -m benchmarks.training``: CSV to a trained model, beside pandas and AWS's way.

One run measures all of them, in turn, each in a process of its own; compare lines of one run only.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness import environments, machine
from benchmarks.harness.environments import SetupError
from benchmarks.harness.running import exit_at_sigterm
from benchmarks.harness.servers import HERE, ROOT
from benchmarks.training import datasets, training_report
from benchmarks.training.job_runs import CSV_LOADERS, HYPERPARAMETERS, Data, Run, RunError, train
from benchmarks.training.training_report import TITLES, Likeness
from local_test.backends import DockerBackend
from local_test.ml_tree import MlTree
from local_test.outcomes import BackendError

OUTPUT_DIR = ROOT / "build" / "bench-training"
# It has pandas, and the XGBoost that ours has.
_PEERS_REQUIREMENTS = HERE / "peers" / "classic" / "requirements.txt"
_COMPARED_FIRST = "pandas"


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code."""
    exit_at_sigterm()
    given = _parser().parse_args(arguments)
    try:
        if given.image:
            return _train_beyond_memory(given.image, given.output)
        _compare(given)
    except (SetupError, RunError, BackendError) as error:
        print(f"bench-train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench-train: interrupted; every process was stopped", file=sys.stderr)
        return 130
    return 0


def _compare(given: argparse.Namespace) -> None:
    environment_dir = given.output / "env"
    environments.make(environment_dir, _PEERS_REQUIREMENTS)
    python = environment_dir / "bin" / "python"
    runs: list[Run] = []
    likenesses: dict[float, list[Likeness]] = {}
    for size in given.sizes:
        csv_file = given.output / f"train-{size:g}.csv"
        print(f"bench-train: {csv_file.name} ...", flush=True)
        datasets.write(csv_file, int(size * 1e9))
        data = Data(size, csv_file)
        datasets.warm_page_cache(csv_file)  # for all alike
        for repetition in range(given.repetitions):
            for subject in _turn(given.subjects, repetition):
                runs.append(train(subject, data, _model(given.output, subject), python))
                print(f"bench-train: {runs[-1]}", flush=True)
        likenesses[size] = _likenesses(given.subjects, csv_file, given.output, python)
        if not given.keep:
            csv_file.unlink()
    results = {
        "machine": machine.facts(),
        "parameters": HYPERPARAMETERS,
        "runs": [asdict(run) for run in runs],
    }
    (given.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    report = training_report.render(runs, likenesses, machine.facts())
    (given.output / "report.md").write_text(report)
    print(report)


def _turn(subjects: Sequence[str], repetition: int) -> list[str]:
    """Each repetition begins with another one."""
    start = repetition % len(subjects)
    return [*subjects[start:], *subjects[:start]]


def _model(directory: Path, subject: str) -> Path:
    return directory / f"{subject}.ubj"


def _likenesses(
    subjects: Sequence[str], csv_file: Path, directory: Path, python: Path
) -> list[Likeness]:
    ordered = sorted(subjects, key=lambda subject: subject != _COMPARED_FIRST)
    files = [str(_model(directory, subject)) for subject in ordered]
    command = [
        str(python),
        str(CSV_LOADERS),
        "compare",
        str(csv_file),
        *files,
    ]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(finished.stdout)
    return [Likeness(subject, **facts) for subject, facts in zip(ordered, found, strict=True)]


def _train_beyond_memory(image: str, directory: Path) -> int:
    """Train on a file four times as large as a container of 1 GB."""
    shutil.rmtree(directory / "ml", ignore_errors=True)  # with its checkpoints
    ml = MlTree(directory / "ml").create()
    ml.write_hyperparameters(HYPERPARAMETERS)
    csv_file = directory / "train-beyond.csv"
    datasets.write(csv_file, 4 * 2**30)
    (ml.write_channel("train", {}, content_type="text/csv") / "train.csv").hardlink_to(csv_file)
    limits = ("--memory", "1g", "--memory-swap", "1g")
    run = DockerBackend(image, limits).run_training(ml, timeout_seconds=3600)
    print(run.output)
    print(f"bench-train: exit code {run.exit_code}")
    return run.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    add = parser.add_argument
    add("--sizes", type=_sizes, default=[0.2, 1.0, 3.0], metavar="GB,GB", help="(0.2,1,3)")
    add("--repetitions", type=int, default=3, metavar="N", help="of each size (3)")
    add(
        "--subjects",
        type=_subjects,
        default=list(TITLES),
        metavar="A,B",
        help=f"of: {', '.join(TITLES)}",
    )
    add("--keep", action="store_true", help="keep the CSV files for the next run")
    add("--image", help="instead of comparing: train on 4 GiB in a container of 1 GiB")
    add("--output", type=lambda text: Path(text).absolute(), default=OUTPUT_DIR, metavar="DIR")
    return parser


def _sizes(text: str) -> list[float]:
    return [float(size) for size in text.split(",")]


def _subjects(text: str) -> list[str]:
    subjects = text.split(",")
    unknown = set(subjects) - set(TITLES)
    if unknown:
        raise argparse.ArgumentTypeError(f"not known: {', '.join(sorted(unknown))}")
    return subjects


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
