"""The modules of one model's own code, where several models share a process.

Two models may each have a `helpers.py`. What a model's code imports from its own directories keeps
its name but belongs to that model alone: it is in `sys.modules` only while the model is being
loaded, or while its code imports something more. Each module of the code has an `__import__` of its
own that sees to it, so an `import` inside a function finds the right module, too.

Directories that the code adds to `sys.path` meanwhile are its own, too: they are taken out again,
and what lies there belongs to the model alone.

A module also has a name of its own, `helpers@7`, by which `sys.modules` has it for as long as the
model is there: dataclasses, pickle and others look up what a class calls its module. Packages have
not, since Python imports their parts by what they are called.

What stays shared: installed packages and Python's own, which come first, as ever. What does not
work after loading is to import one's own modules by their names in other ways than the statement
(`importlib.import_module`, unpickling what was pickled elsewhere).
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

# Whoever holds it has its modules in place.
_one_at_a_time = threading.RLock()
_numbers = itertools.count(1)
# Where the server's own and the installed modules are found; no model has run yet.
_SERVER_PATH = tuple(sys.path)


class IsolatedModules:
    """See the module. What it has loaded refers to it, and is collected with it."""

    def __init__(self, directories: Sequence[str]) -> None:
        """Args:
        directories: Where the code and the packages that it brings along lie.
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
        # Its own name, unless that means something else: `import inference` finds this very module.
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
        """Have this model's modules where Python looks for modules, all the time.

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
        with _one_at_a_time:
            if self._depth == 0:
                self._path_before = list(sys.path)
                sys.modules.update(self._modules)
                sys.meta_path.insert(0, cast(Any, self))
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    sys.meta_path.remove(cast(Any, self))
                    self._take_back()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`: called for all imports while the modules are in
        place, and answers for those of this model's own."""
        if path is None:
            self._adopt_directories()
            if not self._owns(name):
                return _find_shared(name)  # also where the code put its directories first
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
        """What `import` does in the model's code."""
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
        """Whether a top-level name means a module of this model's."""
        owned = self._owned.get(name)
        if owned is None:
            owned = self._owned[name] = not _is_taken(name) and (
                PathFinder.find_spec(name, self._directories) is not None
            )
        return owned

    def _adopt_directories(self) -> None:
        """Make those that the code has added to `sys.path` its own."""
        known = {*self._path_before, *self._directories}
        added = [directory for directory in sys.path if directory not in known]
        if added:
            self._directories += added
            self._owned.clear()

    def _take_back(self) -> None:
        self._adopt_directories()
        sys.path[:] = self._path_before
        for name in self._found:
            module = sys.modules.pop(name, None)
            if module is not None:
                self._modules[name] = module


class _Alias(ModuleType):
    """Stands in `sys.modules` for a module, and keeps it from nothing."""

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
    """Gives a module the `__import__` of the model that it belongs to, and a name of its own."""

    def __init__(self, name: str, path: str, its_builtins: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._builtins = its_builtins

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self._builtins
        if not hasattr(module, "__path__"):
            # Without dots, at which a name would be taken apart.
            module.__name__ = f"{self.name.replace('.', ':')}@{next(_numbers)}"
            sys.modules[module.__name__] = _Alias(module.__name__, module)
        # As the loader of files does, which takes a module of another name for a mistake.
        code = cast(CodeType, self.get_code(self.name))
        exec(code, module.__dict__)  # noqa: S102 - the user's own


def _is_taken(name: str) -> bool:
    """Whether a name means one of Python's modules, an installed one or one of ours."""
    return name in sys.stdlib_module_names or name == "__main__" or _find_shared(name) is not None


def _find_shared(name: str) -> ModuleSpec | None:
    """What a top-level name means to everybody, whatever models have added to `sys.path`."""
    for finder in sys.meta_path:
        if isinstance(finder, IsolatedModules):
            continue
        path = _SERVER_PATH if finder is PathFinder else None
        spec = finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None
