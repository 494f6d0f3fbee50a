"""The reports as the documentation shows them."""

from pathlib import Path

import pytest

from benchmarks import publish
from benchmarks.serving.results import Results
from tests.unit.benchmarks.conftest import make_sample


def marks(section: str) -> tuple[str, str]:
    begin = f"<!-- {section}: made by `python -m benchmarks.publish`, do not edit -->"
    return begin, f"<!-- end of {section} -->"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page with a place for every section, each of which holds its own name."""
    file = tmp_path / "page.md"
    places = ((*marks(section), section) for section in publish.SECTIONS)
    file.write_text("".join(f"{begin}\n\nold {name}\n\n{end}\n" for begin, end, name in places))
    return file


def section_of(page: Path, section: str) -> str:
    begin, end = marks(section)
    return page.read_text().partition(begin)[2].partition(end)[0].strip()


def test_insert_replaces_what_stands_between_the_marks() -> None:
    """And nothing else."""
    begin, end = marks("training")
    page = f"before\n{begin}\nold\n{end}\nafter\n"

    once = publish.insert(page, "new\n", "training")

    assert once == f"before\n{begin}\n\nnew\n\n{end}\nafter\n"
    assert publish.insert(once, "new", "training") == once


def test_insert_without_marks_is_an_error() -> None:
    """Rather than a page without results."""
    with pytest.raises(ValueError, match="no section"):
        publish.insert("a page", "new", "results")


@pytest.mark.parametrize("section", publish.SECTIONS)
def test_the_page_has_a_place_for_every_section(section: str) -> None:
    """The real one."""
    publish.insert(publish.PAGE.read_text(), "new", section)


def test_every_report_that_there_is_is_published(
    results: Results, tmp_path: Path, page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each in its own section; of both engines in one."""
    results.samples = [make_sample("ours")]
    results.write(tmp_path / "results.json")
    for name in ("soak", "multi_model_mms", "multi_model_gunicorn", "report"):
        (tmp_path / f"{name}.md").write_text(f"new {name}\n")

    (tmp_path / "plot.png").write_bytes(b"new plot")

    assert publish.main(tmp_path, tmp_path, page) == 0

    assert (tmp_path / "page" / "plot.png").read_bytes() == b"new plot"
    assert ",OURS," in (tmp_path / "page" / "points.csv").read_text()
    assert "**OURS** (ours 1.0)" in section_of(page, "results")
    assert section_of(page, "soak") == "new soak"
    many = section_of(page, "many models").split("\n\n")
    assert [text.strip() for text in many if text.strip()] == [
        "new multi_model_gunicorn",
        "new multi_model_mms",
    ]
    assert section_of(page, "training") == "new report"
    assert capsys.readouterr().out.count(": published\n") == 4


@pytest.mark.parametrize("section", ["soak", "training"])
def test_what_is_not_there_is_left_as_it_is(
    section: str, tmp_path: Path, page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of one kind does not take away what another has left on the page."""
    files = {
        "soak": tmp_path / "bench" / "soak.md",
        "training": tmp_path / "training" / "report.md",
    }
    files[section].parent.mkdir()
    files[section].write_text("new")

    assert publish.main(tmp_path / "bench", tmp_path / "training", page) == 0

    said = capsys.readouterr().out
    for other in publish.SECTIONS:
        is_new = other == section
        assert section_of(page, other) == ("new" if is_new else f"old {other}")
        outcome = "published" if is_new else "no report, left as is"
        assert f"publish: {other}: {outcome}\n" in said


def test_nothing_to_publish_is_an_exit_code(tmp_path: Path, page: Path) -> None:
    """And the page stays."""
    before = page.read_text()

    assert publish.main(tmp_path / "none", tmp_path / "none", page) == 1
    assert page.read_text() == before
