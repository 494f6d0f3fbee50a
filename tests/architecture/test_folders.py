"""Unit and integration tests lie in the folders of the modules that they test."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_folders_of_tests_mirror_the_source() -> None:
    """A reader of `serve/http` finds its tests below `serve/http`."""
    strays = [
        folder.relative_to(ROOT).as_posix()
        for kind in ("unit", "integration")
        for folder in {test.parent for test in (ROOT / "tests" / kind).rglob("test_*.py")}
        if not (ROOT / folder.relative_to(ROOT / "tests" / kind)).is_dir()
    ]
    assert strays == []
