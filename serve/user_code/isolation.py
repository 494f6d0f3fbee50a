"""Isolation of the modules of each model's code, where several models share a process.

Two models may each have a `helpers.py`. A module that a model's code imports from its own
directories keeps its name but belongs to that model only: it is in `sys.modules` only while the
model is being loaded, or while its code imports another module. Each module of the code has an
`__import__` of its own for that, so an `import` inside a function finds the right module, too.

Directories that the code adds to `sys.path` while it is loaded become the model's own: they are
removed from `sys.path`, and modules in them belong to that model only.

A module also has a unique name, `helpers@7`, under which it is in `sys.modules` for as long as the
model is loaded: dataclasses, pickle and others look up the module of a class by `__module__`.
Packages have no unique name, since Python imports their submodules by the package's name.

Installed packages and Python's own modules are shared, and come first. After loading, a model's own
modules can be imported by the `import` statement only: not by `importlib.import_module`, nor by
unpickling an object that was pickled elsewhere.
"""

import builtins
import importlib
import itertools
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec, resolve_name, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, cast

# Held while the modules of one model are in `sys.modules`.
_import_lock = threading.RLock()
_numbers = itertools.count(1)
# Directories of the server's own and the installed modules, taken before any model has run.
_SERVER_PATH = tuple(sys.path)


class IsolatedModules:
    """The modules of one model; they refer to this object and are garbage-collected with it."""

    def __init__(self, directories: Sequence[str]) -> None:
        """Args:
        directories: Those of the code and of the packages that it brings along.
        """
        self._directories = list(directories)
        self._modules: dict[str, ModuleType] = {}
        self._found: set[str] = set()
        self._owned: dict[str, bool] = {}  # by top-level name
        self._path_before: list[str] = []
        self._depth = 0
        self._is_loading = False
        self._builtins = {**vars(builtins), "__import__": self._import}

    def load(self, script: Path) -> ModuleType:
        """Run the script and return its module; raises whatever it raises."""
        sys.dont_write_bytecode = True  # the model directory is only read (C-059)
        importlib.invalidate_caches()
        # Its own name, unless another module has it: `import inference` finds this very module.
        is_own = script.stem.isidentifier() and not _is_taken(script.stem)
        name = script.stem if is_own else f"_user_{script.stem}"
        loader = _Loader(name, str(script), self._builtins)
        spec = cast(ModuleSpec, spec_from_file_location(loader.name, script, loader=loader))
        with self.loading():
            module = module_from_spec(spec)
            self._found.add(loader.name)
            sys.modules[loader.name] = module  # dataclasses and pickle look for it there
            loader.exec_module(module)
        return module

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Keep this model's modules in `sys.modules` for the whole block.

        Threads that the model's code starts meanwhile find them, too, without waiting.
        """
        with self._in_place():
            was_loading, self._is_loading = self._is_loading, True
            try:
                yield
            finally:
                self._is_loading = was_loading

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        with _import_lock:
            if self._depth == 0:
                self._path_before = list(sys.path)
                sys.modules.update(self._modules)
                sys.meta_path.insert(0, cast(Any, self))
            self._depth += 1  # an import may import: only the outermost one cleans up
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    sys.meta_path.remove(cast(Any, self))
                    self._remove()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find this model's own modules; a finder of `sys.meta_path` while they are in place."""
        if path is None:
            self._adopt_directories()
            if not self._owns(name):
                # Even if the code put its directories first in `sys.path`.
                return _find_shared(name)
            path = self._directories
        elif name.partition(".")[0] not in self._found:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            self._found.add(name)
            if type(spec.loader) is SourceFileLoader:
                spec.loader = _Loader(spec.loader.name, spec.loader.path, self._builtins)
        return spec

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """The `__import__` of the model's code."""
        package = str((globals or {}).get("__package__") or "")
        full_name = resolve_name("." * level + name, package) if level and package else name
        if self._is_loading or not self._owns(full_name.partition(".")[0]):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = self._modules.get(full_name)
        if module is not None and fromlist and all(hasattr(module, part) for part in fromlist):
            return module
        if module is not None and not fromlist and not level:
            return self._modules[full_name.partition(".")[0]]
        with self._in_place():
            return builtins.__import__(name, globals, locals, fromlist or (), level)

    def _owns(self, name: str) -> bool:
        """True if a top-level name is a module of this model's own."""
        owned = self._owned.get(name)
        if owned is None:
            owned = self._owned[name] = not _is_taken(name) and (
                PathFinder.find_spec(name, self._directories) is not None
            )
        return owned

    def _adopt_directories(self) -> None:
        """Make directories that the code has added to `sys.path` the model's own."""
        known = {*self._path_before, *self._directories}
        added = [directory for directory in sys.path if directory not in known]
        if added:
            self._directories += added
            self._owned.clear()

    def _remove(self) -> None:
        """Take this model's modules out of `sys.modules`, and its directories out of `sys.path`."""
        self._adopt_directories()
        sys.path[:] = self._path_before
        for name in self._found:
            module = sys.modules.pop(name, None)
            if module is not None:
                self._modules[name] = module


class _Alias(ModuleType):
    """Entry of `sys.modules` for a module, which it does not keep alive."""

    def __init__(self, name: str, module: ModuleType) -> None:
        super().__init__(name)
        self._module = weakref.ref(module, lambda _: sys.modules.pop(name, None))

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        module = self._module()
        return {} if module is None else module.__dict__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module(), name)


class _Loader(SourceFileLoader):
    """Gives a module the `__import__` of its model, and a unique name."""

    def __init__(self, name: str, path: str, model_builtins: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._builtins = model_builtins

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self._builtins
        if not hasattr(module, "__path__"):
            # Without dots, at which Python would split the name into package and module.
            module.__name__ = f"{self.name.replace('.', ':')}@{next(_numbers)}"
            sys.modules[module.__name__] = _Alias(module.__name__, module)
        # As `SourceFileLoader.exec_module` does, which refuses a module with another `__name__`.
        code = cast(CodeType, self.get_code(self.name))
        exec(code, module.__dict__)  # noqa: S102 - the user's own


def _is_taken(name: str) -> bool:
    """True if a name is a module of Python's, an installed one or one of the server's."""
    return name in sys.stdlib_module_names or name == "__main__" or _find_shared(name) is not None


def _find_shared(name: str) -> ModuleSpec | None:
    """Find a shared top-level module, in spite of directories that models added to `sys.path`."""
    for finder in sys.meta_path:
        if isinstance(finder, IsolatedModules):
            continue
        path = _SERVER_PATH if finder is PathFinder else None
        spec = finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None
