"""Which models there are: one small SQLite database that all workers share and that outlives them.

A model is here from the moment that it can be invoked, which its `POST /models` waits for, until
its DELETE takes it out. While it is being loaded its name is reserved and nobody sees it, so a load
that fails has never been there. Whether a worker has it in memory is the worker's own business
(`serve/multi_model/residency/model_cache.py`).

The files lie in memory (tmpfs) where there is some. Nothing is flushed to a disk for the sake of a
power cut, which ends the container anyway; a process that is killed in the middle of a change
leaves the database as it was before.
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
# Of models that come and go under ever new digests, the oldest are forgotten.
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
CREATE TABLE verdicts (
    digest TEXT NOT NULL UNIQUE, algorithm TEXT NOT NULL, n_bytes INTEGER NOT NULL, problem TEXT
);
"""


class Model(NamedTuple):
    """A model that was admitted.

    `generation` is larger than that of any model before it, also of one of the same name.
    `signature` says, cheaply, that its files are those that were admitted (`digest`).
    """

    generation: int
    name: str
    url: str
    digest: str
    signature: str
    algorithm: str
    n_bytes: int


class Verdict(NamedTuple):
    """What a trial has shown of files with one digest; a `problem` where they were refused."""

    algorithm: str
    n_bytes: int
    problem: str | None = None


class Registry:
    """See the module. Made before the workers are forked; usable in every process and thread."""

    def __init__(self, directory: Path, versions: Versions) -> None:
        """Create the database in `directory`, an empty one of ours."""
        self._file = directory / "registry.sqlite"
        self._lock_file = directory / "registry.lock"
        self._versions = versions
        self._own = threading.local()
        self._locks: set[int] = set()  # descriptors by which this process has or awaits the lock
        os.register_at_fork(after_in_child=self._let_go)
        self._lock_file.touch()
        with _translated():
            connection = self._connect()
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
            connection.close()  # a connection must not be carried across a fork

    def find(self, name: str) -> Model | None:
        """The model of that name."""
        row = self._query("SELECT * FROM models WHERE name = ?", name).fetchone()
        return None if row is None else Model._make(row)

    def page(self, after: str, limit: int) -> list[Model]:
        """The next `limit` models in the order of their names, from after that name on."""
        rows = self._query(
            "SELECT * FROM models WHERE name > ? ORDER BY name LIMIT ?", after, limit
        )
        return [Model._make(row) for row in rows]

    def totals(self) -> tuple[int, int]:
        """How many models there are, and their bytes."""
        row = self._query("SELECT count(*), coalesce(sum(n_bytes), 0) FROM models").fetchone()
        return row[0], row[1]

    def reserve(self, name: str, owner: str, is_alive: Callable[[str], bool]) -> int:
        """Reserve a name for the model that `owner` is about to load.

        Args:
            is_alive: Asked of another owner; what a dead one reserved is taken over.
        Returns:
            The generation of the model, if it is added.
        Raises:
            ModelAlreadyLoadedError: there is one, or somebody else is loading it.
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

    def give_up(self, generation: int) -> None:
        """Take back a reservation; nothing where it was taken over."""
        with self._writing() as connection:
            connection.execute("DELETE FROM loads WHERE generation = ?", (generation,))

    def add(self, model: Model, *, max_bytes: int | None = None) -> bool:
        """Turn a reservation into a model, which every worker can invoke from now on.

        Args:
            max_bytes: What all models may have together; None means any number.
        Returns:
            Whether there was room for it.
        Raises:
            ModelAlreadyLoadedError: the reservation was taken over.
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
                    "its name while this one did not answer."
                )
            connection.execute("INSERT INTO models VALUES (?, ?, ?, ?, ?, ?, ?)", model)
            connection.commit()
            return True

    def remove(self, name: str) -> Model | None:
        """Delete a model, which no worker invokes from now on.

        Returns:
            What was deleted; None where there was none.
        """
        with self._writing() as connection, self._versions.change(name):
            model = self.find(name)
            if model is None:
                return None
            connection.execute("DELETE FROM models WHERE name = ?", (name,))
            connection.commit()
            return model

    def claim(self, moment: int) -> bool:
        """Whether the caller is the first to claim `moment`, a number that grows."""
        with self._writing() as connection:
            is_first: bool = self._query("PRAGMA user_version").fetchone()[0] < moment
            if is_first:
                connection.execute(f"PRAGMA user_version = {moment:d}")
            return is_first

    def verdict(self, digest: str) -> Verdict | None:
        """What is known of files with that digest."""
        row = self._query(
            "SELECT algorithm, n_bytes, problem FROM verdicts WHERE digest = ?", digest
        ).fetchone()
        return None if row is None else Verdict._make(row)

    def remember(self, digest: str, verdict: Verdict) -> None:
        """Keep a verdict; its problem may name files whose names are no Unicode text."""
        problem = verdict.problem and verdict.problem.encode("utf-8", "backslashreplace").decode()
        row = (digest, verdict.algorithm, verdict.n_bytes, problem)
        with self._writing() as connection:
            cursor = connection.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?)", row)
            oldest = (cursor.lastrowid or 0) - _MAX_VERDICTS
            connection.execute("DELETE FROM verdicts WHERE rowid <= ?", (oldest,))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One writer at a time in all processes; the lock of one that is killed is free at once."""
        descriptor = os.open(self._lock_file, os.O_RDWR)
        self._locks.add(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with _translated(), self._connection() as connection:
                yield connection
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough if a child has it, too
            self._locks.remove(descriptor)
            os.close(descriptor)

    def _let_go(self) -> None:
        """In a process that a model's code has forked: not to keep the lock when this one dies."""
        while self._locks:
            os.close(self._locks.pop())

    def _query(self, statement: str, *values: object) -> sqlite3.Cursor:
        with _translated():
            return self._connection().execute(statement, values)

    def _connection(self) -> sqlite3.Connection:
        """This thread's own."""
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
