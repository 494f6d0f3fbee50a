"""Puts the last results into the documentation: ``python -m benchmarks.publish``."""

import sys
from pathlib import Path

from benchmarks import report
from benchmarks.results import Results
from benchmarks.servers import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"


def insert(page: str, text: str, section: str = "results") -> str:
    """Replace what stands between the two marks of a section.

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


def main(directory: Path) -> None:
    """Insert the reports that there are."""
    page = PAGE.read_text()
    results_file = directory / "results.json"
    if results_file.exists():
        parts = [report.render(Results.read(results_file))]
        soak_file = directory / "soak.md"
        if soak_file.exists():
            parts.append("### Under full load for a long time\n\n" + soak_file.read_text())
        page = insert(page, "\n\n".join(parts))
    many_files = sorted(directory.glob("multi_model_*.md"))
    if many_files:
        page = insert(page, "\n\n".join(f.read_text() for f in many_files), "many models")
    PAGE.write_text(page)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "bench")
