import gc
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from serve.user_code.isolation import IsolatedModules


@pytest.fixture(autouse=True)
def clean_interpreter() -> Iterator[None]:
    """Check that the interpreter's tables are as before."""
    path, finders, modules = list(sys.path), list(sys.meta_path), set(sys.modules)
    yield
    gc.collect()
    assert sys.path == path
    assert sys.meta_path == finders
    left = {name for name in set(sys.modules) - modules if name.startswith(("own", "_user_"))}
    assert left == set()


def load(directory: Path, files: dict[str, str]) -> ModuleType:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return IsolatedModules([str(directory), str(directory / "lib")]).load(
        directory / "inference.py"
    )


def test_equal_names_are_different_modules(tmp_path: Path) -> None:
    """Isolates packages, their modules and relative imports, too (C-089)."""
    loaded = [
        load(
            tmp_path / name,
            {
                "inference.py": "import own_helpers, own_package.deep.part as part\n"
                "from own_package import WHO\nseen = [own_helpers.WHO, WHO, part.WHO]",
                "own_helpers.py": f"WHO = '{name} helpers'",
                "own_package/__init__.py": f"WHO = '{name} package'",
                "own_package/deep/__init__.py": "",
                "own_package/deep/part.py": "from .. import WHO\nfrom . import sibling\nWHO += "
                "sibling.END",
                "own_package/deep/sibling.py": "END = ' part'",
            },
        )
        for name in ("one", "two")
    ]

    assert [module.seen for module in loaded] == [
        [f"{name} helpers", f"{name} package", f"{name} package part"] for name in ("one", "two")
    ]
    assert loaded[0].own_helpers is not loaded[1].own_helpers
    assert loaded[0].own_helpers.__name__ != loaded[1].own_helpers.__name__
    assert loaded[0].own_helpers.__name__.startswith("own_helpers@")


def test_import_in_a_function_finds_its_own_models_module(tmp_path: Path) -> None:
    """Finds it the first time and again, in any thread (C-089)."""
    loaded = [
        load(
            tmp_path / name,
            {
                "inference.py": "def late():\n    import own_late\n    from own_late import WHO\n"
                "    import own_package.part\n    from own_package import part\n"
                "    return [own_late.WHO, WHO, own_package.part.WHO, part.WHO]",
                "own_late.py": "import own_later\nWHO = own_later.WHO",
                "own_later.py": f"WHO = {name!r}",
                "own_package/__init__.py": "",
                "own_package/part.py": f"WHO = {name!r}",
            },
        )
        for name in ("one", "two")
    ]
    results: list[list[str]] = []

    def work(module: ModuleType) -> None:
        for _ in range(50):
            results.append(module.late())

    threads = [threading.Thread(target=work, args=(module,)) for module in loaded * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(results) == 200
    assert {tuple(result) for result in results} == {("one",) * 4, ("two",) * 4}


def test_python_and_installed_packages_come_first(tmp_path: Path) -> None:
    """A model's json.py or numpy.py never replaces the real one (C-089)."""
    module = load(
        tmp_path,
        {
            "inference.py": "import json, numpy, os.path\n"
            "from serve.runtime import validation_run\n"
            "seen = [json.dumps, numpy.zeros, os.path.join, validation_run.judge]",
            "json.py": "",
            "numpy.py": "",
            "serve.py": "",
        },
    )

    assert len(module.seen) == 4


def test_packages_of_its_own_lib_are_found(tmp_path: Path) -> None:
    """Finds packages installed with `--target code/lib` (C-089)."""
    module = load(
        tmp_path,
        {
            "inference.py": "import own_library\nWHO = own_library.WHO",
            "lib/own_library/__init__.py": "from own_library.core import WHO",
            "lib/own_library/core.py": "WHO = 'library'",
        },
    )

    assert module.WHO == "library"


def test_directories_added_to_the_search_path_are_the_models_own(tmp_path: Path) -> None:
    """Isolates them in any position; Python's own modules come first (C-089)."""
    loaded = [
        load(
            tmp_path / name,
            {
                "inference.py": "import os, sys\nhere = os.path.dirname(__file__)\n"
                "sys.path.append(here)\nsys.path.insert(0, here + '/more')\n"
                "import own_helpers, own_more, tabnanny\n"
                "def late():\n    import own_late\n    return own_late.WHO",
                "own_helpers.py": f"WHO = {name!r}",
                "more/own_more.py": f"WHO = {name!r}",
                "more/own_late.py": f"from own_helpers import WHO\nassert WHO == {name!r}",
                "more/tabnanny.py": "",
            },
        )
        for name in ("one", "two")
    ]

    assert [[module.own_helpers.WHO, module.own_more.WHO, module.late()] for module in loaded] == [
        ["one"] * 3,
        ["two"] * 3,
    ]
    assert [hasattr(module.tabnanny, "check") for module in loaded] == [True, True]


def test_directory_added_during_an_invocation_takes_no_name_from_other_models(
    tmp_path: Path,
) -> None:
    """Stays in `sys.path`, after each model's own directories (C-089)."""
    text = (
        "import sys\ndef late():\n    sys.path.append(sys.modules['os'].path.dirname(__file__))\n"
        "    import own_helpers\n    return own_helpers.WHO"
    )
    loaded = [
        load(tmp_path / name, {"inference.py": text, "own_helpers.py": f"WHO = {name!r}"})
        for name in ("one", "two")
    ]
    path = list(sys.path)
    try:
        seen = [module.late() for module in loaded]
    finally:
        sys.path[:] = path

    assert seen == ["one", "two"]


def test_other_ways_to_import_work_while_the_model_is_loaded(tmp_path: Path) -> None:
    """`import_module` and pickle find the same modules while it is loaded (C-089)."""
    files = {
        "inference.py": "import importlib, pickle\nimport own_helpers\n"
        "same = importlib.import_module('own_helpers') is own_helpers\n"
        "thing = pickle.loads(pickle.dumps(own_helpers.Thing()))\n"
        "def load():\n    return importlib.import_module('own_more').WHO",
        "own_helpers.py": "class Thing: pass",
        "own_more.py": "WHO = 'more'",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    modules = IsolatedModules([str(tmp_path)])

    with modules.loading():
        script = modules.load(tmp_path / "inference.py")
        assert script.load() == "more"

    assert script.same
    assert type(script.thing) is script.own_helpers.Thing
    with pytest.raises(ModuleNotFoundError):
        script.load.__globals__["importlib"].import_module("own_helpers")


def test_error_in_the_code_leaves_nothing_behind(tmp_path: Path) -> None:
    """Raises the exception of the code unchanged (C-082)."""
    with pytest.raises(ZeroDivisionError):
        load(tmp_path / "a", {"inference.py": "import own_bad", "own_bad.py": "1 / 0"})
    with pytest.raises(ModuleNotFoundError, match="own_missing"):
        load(tmp_path / "b", {"inference.py": "import own_missing"})
    with pytest.raises(ImportError, match="cannot import name 'NOPE'"):
        load(tmp_path / "c", {"inference.py": "from own_x import NOPE", "own_x.py": ""})


def test_modules_are_collected_with_their_model(tmp_path: Path) -> None:
    """Frees the modules with the model (C-085)."""
    import gc
    import weakref

    module = load(
        tmp_path,
        {
            "inference.py": "import own_helpers\ndef f(): pass",
            "own_helpers.py": "class Thing: pass",
        },
    )
    kept = [weakref.ref(module), weakref.ref(module.own_helpers), weakref.ref(module.f)]

    del module
    gc.collect()

    assert [reference() for reference in kept] == [None, None, None]


def test_star_import_and_submodules_of_the_same_name(tmp_path: Path) -> None:
    """Imports work in forms that use the import machinery every time (C-089)."""
    module = load(
        tmp_path,
        {
            "inference.py": "from own_package import *\ndef again():\n"
            "    from own_package import part, VALUE\n    return part.VALUE, VALUE",
            "own_package/__init__.py": "__all__ = ['part', 'VALUE']\nVALUE = 1",
            "own_package/part.py": "VALUE = 2",
        },
    )

    assert module.part.VALUE == 2
    assert module.VALUE == 1
    assert module.again() == (2, 1)


def test_script_that_imports_itself_finds_itself(tmp_path: Path) -> None:
    """Finds itself under its own name, in each of two models."""
    text = "def itself():\n    import inference\n    return inference\n"
    loaded = []
    for name in ("a", "b"):
        loaded.append(load(tmp_path / name, {"inference.py": text}))

    assert [module.itself() for module in loaded] == loaded
    assert loaded[0] is not loaded[1]


def test_names_go_with_their_model(tmp_path: Path) -> None:
    """Removes the names of modules with their model."""
    module = load(tmp_path, {"inference.py": "import own_a", "own_a.py": ""})
    names = [module.__name__, module.own_a.__name__]
    assert set(names) <= sys.modules.keys()

    del module
    gc.collect()

    assert not set(names) & sys.modules.keys()
