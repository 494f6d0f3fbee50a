"""`docs/settings.md` says what the program reads."""

from dataclasses import fields
from pathlib import Path

import pytest

from container.settings import Settings
from scripts import settings_table


def test_table_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    """A change of a setting needs `make contract`."""
    code = settings_table.main(["--check"])

    shown = capsys.readouterr()
    assert code == 0, shown.err + shown.out


def test_every_setting_has_a_row_with_its_default_and_meaning() -> None:
    """In the words of its declaration; defaults as an operator writes them."""
    rows = [line for line in settings_table.render().splitlines() if line.startswith("| `")]

    assert len(rows) == len(fields(Settings))
    for row, setting in zip(rows, fields(Settings), strict=True):
        variable, default, accepted, meaning = (cell.strip() for cell in row.split("|")[1:-1])
        assert variable == f"`{setting.metadata['variable']}`"
        assert accepted == setting.metadata["parser"].accepted
        assert meaning == setting.metadata["meaning"]
        given = {} if default == "-" else {setting.metadata["variable"]: default.strip("`")}
        assert Settings.from_env(given) == Settings()


def test_stale_page_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the difference, and the command that mends it."""
    (tmp_path / "docs").mkdir()
    assert settings_table.main([], tmp_path) == 0
    assert settings_table.main(["--check"], tmp_path) == 0
    page = tmp_path / settings_table.PAGE_FILE
    page.write_text(page.read_text().replace("8080", "9090"))

    assert settings_table.main(["--check"], tmp_path) == 1
    shown = capsys.readouterr()
    assert "+| `SAGEMAKER_BIND_TO_PORT` | `8080`" in shown.out
    assert settings_table.COMMAND in shown.err
