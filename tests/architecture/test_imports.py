"""The direction of imports, read from the source; `docs/architecture.md` draws it."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("container", "train", "serve")
FRAMEWORKS = {"xgboost", "keras", "tensorflow", "onnxruntime", "sklearn", "lightgbm", "scipy"}
# Sparse matrices: XGBoost's and LightGBM's own, and what a user's own code is given.
OWNERS = {
    "scipy": (
        *("container.algorithms.xgboost.", "container.algorithms.lightgbm."),
        "serve.user_code.default_codecs",
    )
}
# Modules that may import a library, by the beginnings of their names.
LIBRARIES = {
    "flask": ("serve.http.admin_app", "serve.http.flask_errors", "serve.multi_model.api"),
    "gunicorn": ("serve.server", "serve.gunicorn.", "serve.multi_model."),
    "mms": (),  # it is another program, which starts `serve.mms.handler`
    "pydantic": (
        "container.hyperparameters",
        "container.manifest",
        "container.schema",
        "container.algorithms.",
    ),
}

# Who may import whom: each layer sees itself and the layers before it.
LAYERS = [
    {"container.errors", "container"},
    {"container.content_types", "container.cgroup", "container.allocator", "container.redaction"},
    {"container.settings", "container.opt_ml", "container.logs", "container.manifest"},
    {"container.hyperparameters"},
    {"container.codecs"},
    {"container.algorithms"},
    {"train", "serve"},
    {"container.__main__"},
]


def _modules(*packages: str) -> Iterator[tuple[str, Path]]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@cache
def _imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    nodes = _outside_functions(tree) if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            # `from package import module` names a module of ours, `from module import x` a thing.
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                place = ROOT / full.replace(".", "/")
                is_ours = place.with_suffix(".py").exists() or place.is_dir()
                found.add(full if is_ours else node.module)
    return found


def _imported_packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in _imports(path)}


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        yield node
        yield from _outside_functions(node)


def _layer(module: str) -> int:
    matches = [
        (len(name), index)
        for index, names in enumerate(LAYERS)
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    assert matches, f"{module} belongs to no layer; say where in {__file__}"
    return max(matches)[1]


MODULES = list(_modules(*PRODUCT))


def test_imports_go_from_later_layers_to_earlier_ones() -> None:
    """errors <- settings … <- codecs <- algorithms <- train | serve <- __main__."""
    upward = [
        f"{module} imports {imported}"
        for module, path in MODULES
        for imported in sorted(_imports(path))
        if imported.split(".")[0] in PRODUCT and _layer(imported) > _layer(module)
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions and for types only count as well: each module can be read alone."""
    names = {name for name, _ in MODULES}
    graph = {module: (_imports(path) & names) - {module} for module, path in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which lists the modules of a circle


def test_the_verbs_do_not_know_each_other() -> None:
    """train never imports serve, nor serve train."""
    crossing = [
        f"{module} imports {other}"
        for verb, other in (("train", "serve"), ("serve", "train"))
        for module, path in _modules(verb)
        if other in _imported_packages(path)
    ]
    assert crossing == []


def test_local_test_knows_nothing_of_the_product() -> None:
    """An emulator that shares the product's constants could only agree with it."""
    known = [
        f"{module} imports {package}"
        for module, path in _modules("local_test")
        for package in sorted(_imported_packages(path) & set(PRODUCT))
    ]
    assert known == []


def test_frameworks_are_imported_by_their_own_handler_only() -> None:
    """`xgboost` below `algorithms/xgboost` and nowhere else, likewise the others."""
    misplaced = [
        f"{module} imports {framework}"
        for module, path in MODULES
        for framework in sorted(_imported_packages(path) & FRAMEWORKS)
        if not module.startswith(OWNERS.get(framework, (f"container.algorithms.{framework}.",)))
    ]
    assert misplaced == []


def test_libraries_stay_where_they_belong() -> None:
    """HTTP at the rim, business inside."""
    misplaced = [
        f"{module} imports {library}"
        for module, path in MODULES
        for library in sorted(_imported_packages(path) & LIBRARIES.keys())
        if not module.startswith(LIBRARIES[library])
    ]
    assert misplaced == []


def _needs_framework(module: str) -> bool:
    """True if a framework's own module imports it, itself or through another of its modules."""
    if not module.startswith(("container.algorithms.xgboost.", "container.algorithms.lightgbm.")):
        return False
    imported = _imports(dict(MODULES)[module], top_level_only=True)
    return any(n.split(".")[0] in FRAMEWORKS or _needs_framework(n) for n in imported)


def test_importing_any_module_does_nothing_and_loads_no_framework() -> None:
    """No output, no files, no environment: work begins when a verb is called."""
    names = [
        name for name, _ in MODULES if name != "container.__main__" and not _needs_framework(name)
    ]
    script = f"""
import os, sys
before = dict(os.environ)
for name in {names!r}:
    __import__(name)
assert dict(os.environ) == before, "the environment changed"
loaded = {FRAMEWORKS!r} & set(sys.modules)
assert not loaded, f"frameworks were loaded: {{loaded}}"
"""

    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


def test_modules_are_short_and_functions_too() -> None:
    """A module has at most 400 lines, a function at most 60 without its docstring."""
    too_long = []
    for module, path in _modules(*PRODUCT, "local_test", "benchmarks", "scripts"):
        source = path.read_text()
        if source.count("\n") > 400:
            too_long.append(f"{module}: {source.count(chr(10))} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body and (body[-1].end_lineno or 0) - body[0].lineno + 1 > 60:
                    too_long.append(f"{module}.{node.name}")
    assert too_long == []


def test_no_two_modules_have_the_same_name() -> None:
    """A traceback, a log line and a search by file name each lead to one module."""
    names = Counter(path.stem for _, path in MODULES if not path.stem.startswith("__"))
    assert [name for name, count in names.items() if count > 1] == []


def test_folders_hold_few_modules() -> None:
    """At most 14 directly in one folder; more belong into packages."""
    counts = Counter(path.parent.relative_to(ROOT) for _, path in MODULES)
    assert {str(folder): count for folder, count in counts.items() if count > 14} == {}
