"""Finding the script, and the order of modules."""

import json
import logging
import pickle
import sys
from pathlib import Path

import pytest

from container.errors import ModelLoadError
from serve.user_code import script_loader
from tests.unit.serve.conftest import ModelDirectory


def _warnings(caplog: pytest.LogCaptureFixture) -> dict[str, logging.LogRecord]:
    return {record.message: record for record in caplog.records}


@pytest.mark.parametrize("program", ["serving.py", "serving", "sub/serving.py"])
def test_find_takes_the_name_with_and_without_its_ending(
    model_directory: ModelDirectory, program: str
) -> None:
    """Reads SAGEMAKER_PROGRAM with and without `.py`, as AWS's toolkit does."""
    model_directory.write(
        {"code/serving.py": "", "code/sub/serving.py": "", "code/inference.py": ""}
    )

    found = script_loader.find(model_directory.path, program)

    assert found == model_directory.path / "code" / f"{program.removesuffix('.py')}.py"


def test_find_takes_inference_py_where_nothing_is_named(model_directory: ModelDirectory) -> None:
    """Finds inference.py by default, as AWS's toolkit does."""
    assert script_loader.find(model_directory.path, None) is None

    model_directory.write({"code/other.py": ""})
    assert script_loader.find(model_directory.path, None) is None

    model_directory.write({"code/inference.py": ""})
    script = script_loader.find(model_directory.path, None)
    assert script == model_directory.path / "code" / "inference.py"


@pytest.mark.parametrize("program", ["serving.py", "../inference.py", "/inference.py", "sub"])
def test_find_named_script_that_is_not_there_is_an_error(
    model_directory: ModelDirectory, program: str
) -> None:
    """Does not start without the script that SAGEMAKER_PROGRAM names (C-061)."""
    model_directory.write({"inference.py": "", "code/a.py": "", "code/sub/b.py": ""})

    with pytest.raises(ModelLoadError, match=r"SAGEMAKER_PROGRAM=.* that it has: a\.py, sub/b\.py"):
        script_loader.find(model_directory.path, program)


@pytest.mark.parametrize("program", ["/opt/ml/model/code/serving.py", "{model}/code/serving"])
def test_find_takes_a_path_below_the_model_directory(
    model_directory: ModelDirectory, program: str
) -> None:
    """Accepts a path below /opt/ml/model and below the real directory."""
    model_directory.write({"code/serving.py": ""})

    found = script_loader.find(
        model_directory.path, program.replace("{model}", str(model_directory.path))
    )

    assert found == model_directory.path / "code" / "serving.py"


@pytest.mark.parametrize(
    "directory", ["/opt/ml/model/src", "{model}/src", "src", "src/", "/opt/ml/model/src/"]
)
@pytest.mark.parametrize("program", [None, "inference.py"])
def test_find_takes_the_directory_that_the_code_was_submitted_in(
    model_directory: ModelDirectory,
    directory: str,
    program: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Uses a SAGEMAKER_SUBMIT_DIRECTORY in the model directory, and its lib."""
    model_directory.write(
        {"src/inference.py": "import vendored", "src/lib/vendored.py": "", "code/inference.py": ""}
    )
    path = model_directory.path
    directory = directory.replace("{model}", str(path))

    script = script_loader.find(path, program, directory)
    script_loader.warn_of_unused(path, script, directory)

    assert script == path / "src" / "inference.py"
    assert script_loader.load(script, script_loader.code_directory(script, path))
    assert caplog.records == []


@pytest.mark.parametrize(
    "directory", ["s3://bucket/sourcedir.tar.gz", "/opt/ml/code", "/opt/ml/model/../x", "nowhere"]
)
def test_submit_directory_elsewhere_is_not_used_and_the_log_says_so(
    model_directory: ModelDirectory, directory: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs an S3 address that is not used."""
    model_directory.write({"code/inference.py": ""})
    path = model_directory.path

    script = script_loader.find(path, None, directory)
    script_loader.warn_of_unused(path, script, directory)

    assert script == path / "code" / "inference.py"
    assert repr(directory) in _warnings(caplog)["submit_directory_not_used"].reason


def test_code_in_the_model_directory_itself(model_directory: ModelDirectory) -> None:
    """Imports from the model directory for SAGEMAKER_SUBMIT_DIRECTORY=/opt/ml/model."""
    model_directory.write({"inference.py": "import beside", "beside.py": ""})
    path = model_directory.path

    script = script_loader.find(path, "inference.py", "/opt/ml/model")

    assert script == path / "inference.py"
    assert script_loader.load(script, script_loader.code_directory(script, path))
    with pytest.raises(ModelLoadError, match=r"has no file other\.py; .*: beside\.py, inference"):
        script_loader.find(path, "other.py", "/opt/ml/model")


def test_find_named_script_without_any_code(model_directory: ModelDirectory) -> None:
    """Says that there is no Python file."""
    with pytest.raises(ModelLoadError, match=r"\(code/ holds no Python file\)"):
        script_loader.find(model_directory.path, "inference.py")


def test_warns_of_requirements_that_are_not_installed(
    model_directory: ModelDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs what to do instead of installing at start (C-007)."""
    model_directory.write({"code/inference.py": "", "code/requirements.txt": "polars"})
    script = script_loader.find(model_directory.path, None)

    script_loader.warn_of_unused(model_directory.path, script)

    (record,) = caplog.records
    assert record.message == "requirements_not_installed"
    assert "pip install --target code/lib" in record.reason


def test_does_not_warn_of_requirements_that_were_brought_along(
    model_directory: ModelDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """Does not warn of requirements.txt beside code/lib."""
    model_directory.write(
        {"code/inference.py": "", "code/requirements.txt": "six", "code/lib/six.py": ""}
    )
    script = script_loader.find(model_directory.path, None)

    script_loader.warn_of_unused(model_directory.path, script)

    assert caplog.records == []


def test_warns_of_a_script_beside_the_model(
    model_directory: ModelDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """Warns of a script in the root of the archive, the most frequent mistake."""
    model_directory.write({"inference.py": "", "xgboost-model": ""})

    script_loader.warn_of_unused(model_directory.path, None)

    assert "code/inference.py" in _warnings(caplog)["user_code_not_used"].reason


def test_warns_of_modules_that_cannot_be_imported_by_their_name(
    model_directory: ModelDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """Warns of modules and packages that installed ones hide, not of the script."""
    names = ["inference", "train", "json", "numpy", "features", "my-notes", "__main__"]
    model_directory.write({f"code/{name}.py": "raise SystemExit" for name in names})
    model_directory.write({"code/serve/__init__.py": "", "code/mine/__init__.py": ""})
    script = script_loader.find(model_directory.path, None)

    script_loader.warn_of_unused(model_directory.path, script)

    hidden = _warnings(caplog)["user_modules_hidden"].names
    assert hidden == ["__main__", "json", "numpy", "serve", "train"]


def _load(directory: Path) -> object:
    return script_loader.load(directory / "code" / "inference.py", directory / "code")


def test_load_imports_siblings_and_packages_that_were_brought_along(
    model_directory: ModelDirectory,
) -> None:
    """Searches code/ before code/lib."""
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
    """Imports ours and Python's modules, whatever the user's files are called."""
    for name in ("serve", "train", "container", "json", "numpy"):
        model_directory.write({f"code/{name}.py": "raise SystemExit('the decoy was run')"})
    model_directory.write(
        {
            "code/inference.py": "import container.errors, json, numpy, serve.http.inference_app\n"
            "import train.job as job"
        }
    )

    module = _load(model_directory.path)

    assert Path(module.job.__file__).parts[-2:] == ("train", "job.py")
    assert sys.modules[module.__name__] is module


@pytest.mark.parametrize("name", ["serve.py", "json.py", "my-script.py"])
def test_load_script_of_a_name_that_is_taken_or_is_none(
    model_directory: ModelDirectory, name: str
) -> None:
    """Loads the script by its path; `import json` finds Python's module."""
    model_directory.write(
        {f"code/{name}": "import json, serve.http.inference_app; dumps = json.dumps"}
    )
    script, code_dir = model_directory.path / "code" / name, model_directory.path / "code"

    module = script_loader.load(script, code_dir)

    assert module.dumps is json.dumps
    assert module.__name__ == f"_user_{script.stem}"


def test_load_script_that_imports_itself_runs_once(model_directory: ModelDirectory) -> None:
    """Runs the script once, also when a helper imports it."""
    model_directory.write(
        {
            "code/inference.py": """
                runs = globals().get("runs", []) + [1]
                import inference as itself
                import helper

                class Scale:
                    pass

                def scale():
                    return isinstance(helper.scale(), Scale)
            """,
            "code/helper.py": """
                import inference

                def scale():
                    from inference import Scale
                    return Scale()
            """,
        }
    )

    module = _load(model_directory.path)

    assert module.itself is module.helper.inference is module
    assert module.scale()
    assert pickle.loads(pickle.dumps(module.Scale())).__class__ is module.Scale  # noqa: S301


def test_load_scripts_of_equal_names_do_not_meet(model_directory: ModelDirectory) -> None:
    """`import inference` in the second script finds the second (C-089)."""
    script = "import inference as itself; value = {!r}"
    model_directory.write({"code/inference.py": script.format("one")})
    model_directory.write({"other/code/inference.py": script.format("two")})

    one = _load(model_directory.path)
    two = _load(model_directory.path / "other")

    assert (one.itself.value, two.itself.value) == ("one", "two")


def test_load_script_in_a_subdirectory_imports_its_siblings(
    model_directory: ModelDirectory,
) -> None:
    """Searches the script's directory before code/."""
    model_directory.write(
        {
            "code/src/my.py": "import beside, features, above, vendored; value = features.value",
            "code/src/beside.py": "",
            "code/src/features.py": "value = 'beside'",
            "code/features.py": "value = 'above'",
            "code/above.py": "",
            "code/lib/vendored.py": "",
        }
    )
    code_dir = model_directory.path / "code"

    assert script_loader.load(code_dir / "src" / "my.py", code_dir).value == "beside"


def test_load_leaves_nothing_in_the_model_directory(model_directory: ModelDirectory) -> None:
    """Writes no byte code (C-059)."""
    model_directory.write({"code/inference.py": "import features", "code/features.py": ""})

    _load(model_directory.path)

    names = {path.name for path in model_directory.path.rglob("*")}
    assert names == {"code", "inference.py", "features.py"}


def test_load_supports_what_looks_its_module_up(model_directory: ModelDirectory) -> None:
    """Dataclasses and pickle find the script in `sys.modules`."""
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
    """Raises the exception of the script, and leaves no module."""
    model_directory.write({"code/inference.py": "import sys; sys.exit(3)"})
    before = set(sys.modules)

    with pytest.raises(SystemExit):
        _load(model_directory.path)

    assert set(sys.modules) == before
