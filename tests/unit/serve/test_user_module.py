"""Where the script is found, and whose modules win."""

import logging
import sys
from pathlib import Path

import pytest

from container.errors import ModelLoadError
from serve import user_module
from tests.unit.serve.conftest import ModelDirectory


def _warnings(caplog: pytest.LogCaptureFixture) -> dict[str, logging.LogRecord]:
    return {record.message: record for record in caplog.records}


@pytest.mark.parametrize("program", ["serving.py", "serving", "sub/serving.py"])
def test_find_takes_the_name_with_and_without_its_ending(
    model_directory: ModelDirectory, program: str
) -> None:
    """SAGEMAKER_PROGRAM, as AWS's toolkit reads it."""
    model_directory.write(
        {"code/serving.py": "", "code/sub/serving.py": "", "code/inference.py": ""}
    )

    found = user_module.find(model_directory.path, program)

    assert found == model_directory.path / "code" / f"{program.removesuffix('.py')}.py"


def test_find_takes_inference_py_where_nothing_is_named(model_directory: ModelDirectory) -> None:
    """The name that AWS's toolkit has as its default."""
    assert user_module.find(model_directory.path, None) is None

    model_directory.write({"code/other.py": ""})
    assert user_module.find(model_directory.path, None) is None

    model_directory.write({"code/inference.py": ""})
    script = user_module.find(model_directory.path, None)
    assert script == model_directory.path / "code" / "inference.py"


@pytest.mark.parametrize("program", ["serving.py", "../inference.py", "/inference.py", "sub"])
def test_find_named_script_that_is_not_there_is_an_error(
    model_directory: ModelDirectory, program: str
) -> None:
    """C-061: a server without the code that its owner asked for does not start."""
    model_directory.write({"inference.py": "", "code/a.py": "", "code/sub/b.py": ""})

    with pytest.raises(
        ModelLoadError, match=r"SAGEMAKER_PROGRAM=.* that is there: a\.py, sub/b\.py"
    ):
        user_module.find(model_directory.path, program)


def test_find_named_script_without_any_code(model_directory: ModelDirectory) -> None:
    """The message does not end in nothing."""
    with pytest.raises(ModelLoadError, match=r"\(code/ holds no Python file\)"):
        user_module.find(model_directory.path, "inference.py")


def test_warns_of_requirements_that_are_not_installed(
    model_directory: ModelDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """C-007: no network at start; the line says what to do instead."""
    model_directory.write({"code/inference.py": "", "code/requirements.txt": "polars"})
    script = user_module.find(model_directory.path, None)

    user_module.warn_of_what_is_not_used(model_directory.path, script)

    (record,) = caplog.records
    assert record.message == "requirements_not_installed"
    assert "pip install --target code/lib" in record.reason


def test_does_not_warn_of_requirements_that_were_brought_along(
    model_directory: ModelDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """As AWS's TensorFlow image: with code/lib the list is only the origin of what is there."""
    model_directory.write(
        {"code/inference.py": "", "code/requirements.txt": "six", "code/lib/six.py": ""}
    )
    script = user_module.find(model_directory.path, None)

    user_module.warn_of_what_is_not_used(model_directory.path, script)

    assert caplog.records == []


def test_warns_of_a_script_beside_the_model(
    model_directory: ModelDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """PITFALLS A10-106: root or code/ is the commonest mistake in the layout of an archive."""
    model_directory.write({"inference.py": "", "xgboost-model": ""})

    user_module.warn_of_what_is_not_used(model_directory.path, None)

    assert "code/inference.py" in _warnings(caplog)["user_code_not_used"].reason


def test_warns_of_modules_that_cannot_be_imported_by_their_name(
    model_directory: ModelDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """Ours, Python's and the installed ones win; packages count, the script itself does not."""
    names = ["inference", "train", "json", "numpy", "features", "my-notes", "__main__"]
    model_directory.write({f"code/{name}.py": "raise SystemExit" for name in names})
    model_directory.write({"code/serve/__init__.py": "", "code/mine/__init__.py": ""})
    script = user_module.find(model_directory.path, None)

    user_module.warn_of_what_is_not_used(model_directory.path, script)

    hidden = _warnings(caplog)["user_modules_hidden"].names
    assert hidden == ["__main__", "json", "numpy", "serve", "train"]


def _load(directory: Path) -> object:
    return user_module.load(directory / "code" / "inference.py", directory / "code")


def test_load_imports_siblings_and_packages_that_were_brought_along(
    model_directory: ModelDirectory,
) -> None:
    """code/ and code/lib are on the path, and the first wins."""
    model_directory.write(
        {
            "code/inference.py": "import features, vendored; value = features.value",
            "code/features.py": "value = 'mine'",
            "code/lib/features.py": "value = 'theirs'",
            "code/lib/vendored/__init__.py": "",
        }
    )

    assert _load(model_directory.path).value == "mine"


def test_load_takes_nobodys_place(model_directory: ModelDirectory) -> None:
    """Whatever the user's files are called, ours and Python's are imported."""
    for name in ("serve", "train", "container", "json", "numpy", "inference"):
        model_directory.write({f"code/{name}.py": "raise SystemExit('the decoy was run')"})
    model_directory.write(
        {"code/inference.py": "import container.errors, json, numpy, serve.asgi, train.job as job"}
    )

    module = _load(model_directory.path)

    assert Path(module.job.__file__).parts[-2:] == ("train", "job.py")
    assert "inference" not in sys.modules
    assert sys.modules[module.__name__] is module


def test_load_leaves_nothing_in_the_model_directory(model_directory: ModelDirectory) -> None:
    """C-059: no byte code either."""
    model_directory.write({"code/inference.py": "import features", "code/features.py": ""})

    _load(model_directory.path)

    names = {path.name for path in model_directory.path.rglob("*")}
    assert names == {"code", "inference.py", "features.py"}


def test_load_supports_what_looks_its_module_up(model_directory: ModelDirectory) -> None:
    """Dataclasses and pickle ask `sys.modules` for the module of a class."""
    model_directory.write(
        {
            "code/inference.py": """
                from __future__ import annotations
                import pickle
                from dataclasses import dataclass

                @dataclass
                class Scale:
                    by: float

                copy = pickle.loads(pickle.dumps(Scale(2.0)))
            """
        }
    )

    assert _load(model_directory.path).copy.by == 2.0


def test_load_script_that_fails_leaves_no_module(model_directory: ModelDirectory) -> None:
    """What it raises is raised."""
    model_directory.write({"code/inference.py": "import sys; sys.exit(3)"})
    before = set(sys.modules)

    with pytest.raises(SystemExit):
        _load(model_directory.path)

    assert set(sys.modules) == before
