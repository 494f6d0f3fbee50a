"""Put the last results into the documentation.

Each section of the page is replaced if its report is there, and otherwise left as it is. The plot
and the figures of every point go into a folder beside the page.
"""

import argparse
import shutil
import sys
from pathlib import Path

from benchmarks import __main__ as bench
from benchmarks.harness.servers import ROOT
from benchmarks.serving import report
from benchmarks.serving.comparison import RESULTS_FILE
from benchmarks.serving.results import Results
from benchmarks.training import __main__ as training

PAGE = ROOT / "docs" / "benchmarks.md"
SECTIONS = ("results", "soak", "many models", "training")


def main(
    bench_dir: Path = bench.OUTPUT_DIR, training_dir: Path = training.OUTPUT_DIR, page: Path = PAGE
) -> int:
    """Insert the reports that there are, say which, and return the exit code."""
    found = reports(bench_dir, training_dir)
    text = page.read_text()
    for section, found_text in found.items():
        text = insert(text, found_text, section)
    page.write_text(text)
    if "results" in found:
        _publish_files(bench_dir, page.with_suffix(""))
    for section in SECTIONS:
        print(f"publish: {section}: {'published' if section in found else 'no report, left as is'}")
    return 0 if found else 1


def reports(bench_dir: Path, training_dir: Path) -> dict[str, str]:
    """Collect the text of every report that there is, by section."""
    found = {
        "soak": _joined([bench_dir / "soak.md"]),
        "many models": _joined(sorted(bench_dir.glob("multi_model_*.md"))),
        "training": _joined([training_dir / "report.md"]),
    }
    results_file = bench_dir / RESULTS_FILE
    if results_file.exists():  # an interrupted run has no report.md
        found["results"] = report.render(Results.read(results_file), f"{PAGE.stem}/")
    return {section: text for section, text in found.items() if text}


def _publish_files(bench_dir: Path, directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    points = report.points_csv(Results.read(bench_dir / RESULTS_FILE))
    (directory / report.POINTS_FILE).write_text(points)
    if (plot := bench_dir / report.PLOT_FILE).exists():
        shutil.copy(plot, directory)


def _joined(files: list[Path]) -> str:
    return "\n\n".join(file.read_text() for file in files if file.exists())


def insert(page: str, text: str, section: str) -> str:
    """Replace the text between the two marks of a section.

    Raises:
        ValueError: the page has not both marks, in order.
    """
    first_mark = f"<!-- {section}: made by `python -m benchmarks.publish`, do not edit -->"
    last_mark = f"<!-- end of {section} -->"
    before, begin, rest = page.partition(first_mark)
    _, end, after = rest.partition(last_mark)
    if not (begin and end):
        raise ValueError(f"the page has no section between {first_mark!r} and {last_mark!r}")
    return f"{before}{first_mark}\n\n{text.strip()}\n\n{last_mark}{after}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish", description=__doc__)
    parser.add_argument("bench_dir", type=Path, nargs="?", default=bench.OUTPUT_DIR)
    parser.add_argument("training_dir", type=Path, nargs="?", default=training.OUTPUT_DIR)
    given = parser.parse_args()
    sys.exit(main(given.bench_dir, given.training_dir))
