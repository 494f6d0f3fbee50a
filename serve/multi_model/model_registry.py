"""Registry of models: a small SQLite database that all workers share and that outlives them.

`POST /models` adds a model when it can be invoked; DELETE removes it. While a model is being loaded
its name is reserved and no client sees it, so a load that fails leaves no trace. Which models a
worker has in memory is known to that worker only
(`serve/multi_model/residency/model_cache.py`).

The files are on tmpfs where there is one. Nothing is flushed to disk, since a power cut ends the
container anyway; a process that is killed in the middle of a change leaves the database as it was.
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from container.errors import ModelAlreadyLoadedError, PlatformError
from serve.multi_model.residency.versions import Versions

_BUSY_SECONDS = 10.0
# A server may see ever new digests: beyond this number the oldest verdicts are deleted.
_MAX_VERDICTS = 50_000
_SCHEMA = """
CREATE TABLE models (
    generation INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    url TEXT NOT NULL,
    digest TEXT NOT NULL,
    signature TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    n_bytes INTEGER NOT NULL
);
CREATE TABLE loads (
    generation INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL
);
CREATE TABLE crashes (generation INTEGER PRIMARY KEY, n INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE verdicts (
    digest TEXT NOT NULL UNIQUE, algorithm TEXT NOT NULL, n_bytes INTEGER NOT NULL, problem TEXT
);
"""


OWN_CODE = "code"
"""Takes the place of the algorithm's name for a model that brings a script."""


class Model(NamedTuple):
    """A model that was admitted.

    `generation` is larger than that of any earlier model, also of one with the same name.
    `signature` and `digest` identify the files that were admitted: the first is quick to compare,
    the second is the same wherever the files lie (`serve/multi_model/model_files.py`).
    """

    generation: int
    name: str
    url: str
    digest: str
    signature: str
    algorithm: str
    n_bytes: int


class Verdict(NamedTuple):
    """Result of a validation run, for all files with one digest; `problem` says why it failed."""

    algorithm: str
    n_bytes: int
    problem: str | None = None


class Registry:
    """Registry of models; made before the workers are forked; for all threads."""

    def __init__(self, directory: Path, versions: Versions) -> None:
        """Create the database in `directory`, which is empty and the server's own."""
        self._file = directory / "registry.sqlite"
        self._lock_file = directory / "registry.lock"
        self._versions = versions
        self._own = threading.local()
        self._locks: set[int] = set()  # descriptors by which this process has or awaits the lock
        os.register_at_fork(after_in_child=self._close_locks)
        self._lock_file.touch()
        with _translated():
            connection = self._connect()
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
            connection.close()  # a connection must not be carried across a fork

    def find(self, name: str) -> Model | None:
        """Return the model of that name, or None."""
        row = self._query("SELECT * FROM models WHERE name = ?", name).fetchone()
        return None if row is None else Model._make(row)

    def page(self, after: str, limit: int) -> list[Model]:
        """Return up to `limit` models in the order of their names, beginning after `after`."""
        rows = self._query(
            "SELECT * FROM models WHERE name > ? ORDER BY name LIMIT ?", after, limit
        )
        return [Model._make(row) for row in rows]

    def totals(self) -> tuple[int, int]:
        """Return the number of models and the sum of their bytes."""
        row = self._query("SELECT count(*), coalesce(sum(n_bytes), 0) FROM models").fetchone()
        return row[0], row[1]

    def reserve(self, name: str, owner: str, is_alive: Callable[[str], bool]) -> int:
        """Reserve a name for a model that a worker is about to load.

        Args:
            owner: Name of the worker.
            is_alive: True of a worker that lives; the reservation of a dead one is taken over.
        Returns:
            The generation that the model has once it is added.
        Raises:
            ModelAlreadyLoadedError: a model of that name is registered, or is being loaded.
        """
        with self._writing() as connection:
            if self.find(name) is not None:
                raise ModelAlreadyLoadedError(f"Model {name} is already registered.")
            row = self._query("SELECT owner FROM loads WHERE name = ?", name).fetchone()
            if row is not None and is_alive(row[0]):
                raise ModelAlreadyLoadedError(f"Model {name} is already being registered.")
            cursor = connection.execute(
                "INSERT OR REPLACE INTO loads VALUES (NULL, ?, ?)", (name, owner)
            )
            return cursor.lastrowid or 0

    def cancel(self, generation: int) -> None:
        """Cancel a reservation; a no-op where another worker has taken it over."""
        with self._writing() as connection:
            connection.execute("DELETE FROM loads WHERE generation = ?", (generation,))

    def add(self, model: Model, *, max_bytes: int | None = None) -> bool:
        """Replace a reservation by its model, which every worker can invoke from now on.

        Args:
            max_bytes: Limit of the bytes of all models together; None for no limit.
        Returns:
            False where the model would exceed the limit; the reservation is kept then.
        Raises:
            ModelAlreadyLoadedError: another worker has taken over the reservation.
        """
        with self._writing() as connection, self._versions.change(model.name):
            if max_bytes is not None and self.totals()[1] + model.n_bytes > max_bytes:
                return False
            reserved = connection.execute(
                "DELETE FROM loads WHERE generation = ?", (model.generation,)
            )
            if not reserved.rowcount:
                raise ModelAlreadyLoadedError(
                    f"Model {model.name} is already being registered: another worker took over "
                    "its name while this one did not respond."
                )
            connection.execute("INSERT INTO models VALUES (?, ?, ?, ?, ?, ?, ?)", model)
            connection.commit()
            return True

    def remove(self, name: str) -> Model | None:
        """Delete a model, which no worker invokes from now on.

        Returns:
            The model; None where there is none of that name.
        """
        with self._writing() as connection, self._versions.change(name):
            model = self.find(name)
            if model is None:
                return None
            connection.execute("DELETE FROM models WHERE name = ?", (name,))
            connection.execute("DELETE FROM crashes WHERE generation = ?", (model.generation,))
            connection.commit()
            return model

    def note_crashes(self, generation: int, n: int, reason: str) -> None:
        """Store how often the process of a model has ended in a row, and why; 0 to forget it."""
        with self._writing() as connection:
            if n:
                reason = reason.encode("utf-8", "backslashreplace").decode()
                row = (generation, n, reason)
                connection.execute("INSERT OR REPLACE INTO crashes VALUES (?, ?, ?)", row)
            else:
                connection.execute("DELETE FROM crashes WHERE generation = ?", (generation,))

    def crashes(self, generation: int) -> tuple[int, str]:
        """Return what `note_crashes` has stored; 0 and an empty text without."""
        row = self._query(
            "SELECT n, reason FROM crashes WHERE generation = ?", generation
        ).fetchone()
        return (0, "") if row is None else (row[0], row[1])

    def claim(self, moment: int) -> bool:
        """Claim `moment`, a number that grows; False where another caller has claimed it."""
        with self._writing() as connection:
            is_first: bool = self._query("PRAGMA user_version").fetchone()[0] < moment
            if is_first:
                connection.execute(f"PRAGMA user_version = {moment:d}")
            return is_first

    def verdict(self, digest: str) -> Verdict | None:
        """Return the verdict on files with that digest, or None."""
        row = self._query(
            "SELECT algorithm, n_bytes, problem FROM verdicts WHERE digest = ?", digest
        ).fetchone()
        return None if row is None else Verdict._make(row)

    def remember(self, digest: str, verdict: Verdict) -> None:
        """Store a verdict."""
        # It may name files whose names are not Unicode text.
        problem = verdict.problem and verdict.problem.encode("utf-8", "backslashreplace").decode()
        row = (digest, verdict.algorithm, verdict.n_bytes, problem)
        with self._writing() as connection:
            cursor = connection.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?)", row)
            oldest = (cursor.lastrowid or 0) - _MAX_VERDICTS
            connection.execute("DELETE FROM verdicts WHERE rowid <= ?", (oldest,))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the writers' lock, which the kernel releases when the process is killed."""
        descriptor = os.open(self._lock_file, os.O_RDWR)
        self._locks.add(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with _translated(), self._connection() as connection:
                yield connection
        finally:
            # A child that was forked meanwhile has the same open file: closing it here would leave
            # the lock held.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            self._locks.remove(descriptor)
            os.close(descriptor)

    def _close_locks(self) -> None:
        """Close the lock in a forked process, which would keep it after this one is killed."""
        while self._locks:
            os.close(self._locks.pop())

    def _query(self, statement: str, *values: object) -> sqlite3.Cursor:
        with _translated():
            return self._connection().execute(statement, values)

    def _connection(self) -> sqlite3.Connection:
        """Return the connection of this thread."""
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._connect()
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, timeout=_BUSY_SECONDS)
        connection.execute("PRAGMA synchronous = OFF")
        return connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise PlatformError(f"the registry of models cannot be used: {error}") from error
