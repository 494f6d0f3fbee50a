import inspect
import pickle
import sys
import textwrap
import typing
from pathlib import Path

from tests.unit.serve.user_code.test_isolation import clean_interpreter, load  # noqa: F401


def test_classes_and_functions_are_found_by_their_module(tmp_path: Path) -> None:
    """Dataclasses, pickle, type hints and process pools find them (C-089)."""
    files = {
        "inference.py": """
            from __future__ import annotations
            import multiprocessing
            import pickle
            import typing
            from concurrent.futures import ProcessPoolExecutor
            from dataclasses import asdict, dataclass
            from own_package.shapes import Shape

            def local():
                @dataclass
                class Row:
                    x: int
                return asdict(Row(1))

            def work(x):
                return 2 * x

            def in_pool():
                with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
                    return pool.submit(work, 4).result()
        """,
        "own_package/__init__.py": "",
        "own_package/shapes.py": """
            class Shape:
                size: "Size" = 1

            class Size: ...
        """,
    }
    files = {name: textwrap.dedent(text) for name, text in files.items()}
    modules = [load(tmp_path / name, files) for name in ("one", "two")]

    for module in modules:
        assert module.local() == {"x": 1}
        assert type(pickle.loads(pickle.dumps(module.Shape()))) is module.Shape  # noqa: S301
        assert list(typing.get_type_hints(module.Shape)) == ["size"]
        assert inspect.getsource(module.work).startswith("def work")
        assert module.in_pool() == 8
    assert modules[0].Shape is not modules[1].Shape
    assert not {"inference", "own_package", "own_package.shapes"} & sys.modules.keys()
