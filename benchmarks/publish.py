"""Puts the last results into the documentation: ``python -m benchmarks.publish``."""

import sys
from pathlib import Path

from benchmarks import report
from benchmarks.results import Results
from benchmarks.servers import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN = "<!-- results: made by `python -m benchmarks.publish`, do not edit -->"
END = "<!-- end of results -->"


def insert(page: str, text: str) -> str:
    """Replace what stands between the two marks.

    Raises:
        ValueError: the page has not both marks, in order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no section between {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}"


def main(directory: Path) -> None:
    """Insert the report, and the soak where there is one."""
    parts = [report.render(Results.read(directory / "results.json"))]
    soak_file = directory / "soak.md"
    if soak_file.exists():
        parts.append("### Under full load for a long time\n\n" + soak_file.read_text())
    PAGE.write_text(insert(PAGE.read_text(), "\n\n".join(parts)))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "bench")
