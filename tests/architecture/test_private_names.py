"""Private names of third parties: few, listed here, and noticed when an upgrade removes one."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("container", "train", "serve")
# Private in form, documented in fact: members of named tuples, and `os._exit`.
DOCUMENTED = {"_replace", "_make", "_asdict", "_fields", "_exit"}
# The private names that a module of ours uses or overrides, by the modules that define them.
USED = {
    "serve/gunicorn/inference_worker.py": {"gunicorn.workers.gasgi": {"_serve"}},
    "serve/multi_model/processes.py": {"gunicorn.workers.gasgi": {"_serve"}},
    "container/algorithms/xgboost/formats/pickled_booster.py": {"pickle": {"_Unpickler"}},
}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _defined(tree: ast.AST) -> Iterator[str]:
    """Names of functions, classes, variables, attributes and slots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _used(tree: ast.AST) -> Iterator[str]:
    """Names of attributes, and of functions, which may override one of a base class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


def _tree(module: str) -> ast.AST:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return ast.parse(Path(spec.origin).read_text())


def test_few_names_are_listed() -> None:
    """Each may be gone with the next release of its owner."""
    listed = {name for modules in USED.values() for names in modules.values() for name in names}

    assert len(listed) <= 3


def test_listed_names_are_used_and_defined() -> None:
    """An upgrade that renames one fails here, and so does a name that is used and not listed."""
    found: dict[str, dict[str, set[str]]] = {}
    for ours, modules in USED.items():
        used = set(filter(_is_private, _used(ast.parse((ROOT / ours).read_text()))))
        found[ours] = {theirs: used & set(_defined(_tree(theirs))) for theirs in modules}

    assert found == USED


def test_no_other_private_name_of_third_parties_is_used() -> None:
    """A private attribute that no module of ours defines is a third party's."""
    trees = {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text())
        for package in PRODUCT
        for path in (ROOT / package).rglob("*.py")
    }
    ours = {name for tree in trees.values() for name in _defined(tree)} | DOCUMENTED
    listed = {path: set().union(*modules.values()) for path, modules in USED.items()}

    foreign = {path: set(filter(_is_private, _used(tree))) - ours for path, tree in trees.items()}
    unlisted = {path: names - listed.get(path, set()) for path, names in foreign.items()}
    assert {path: names for path, names in unlisted.items() if names} == {}
