"""The servers that are compared: directories, each with a ``server.toml``.

role        "ours", "floor" or, when left out, "peer"
title       how reports name it
package     the distribution whose version is shown
format      how it is asked, see ``benchmarks.harness.formats``
route       where it predicts
workers     how many processes serve, in words
settings    what else was chosen for it, and why
programs    commands it needs beside Python
ports       how many it listens on, 1 by default
command     what starts it, and [variables] its environment; "{…}" is one of:
            python, env_dir, root (of the checkout), server_dir, work_dir (empty, removed
            afterwards), model_dir (holds model/xgboost-model), model_file, port, port_2, …
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

from benchmarks.harness.formats import FORMATS, Format

HERE = Path(__file__).parents[1]
ROOT = HERE.parent
# A server finds its tools and its language, and nothing else of the caller.
_INHERITED_VARIABLES = ("LANG", "JAVA_HOME")


class Role(StrEnum):
    OURS = "ours"
    PEER = "peer"
    FLOOR = "floor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Declaration of a server, read from its ``server.toml``."""

    directory: Path
    title: str
    package: str
    format: Format
    route: str
    workers: str
    settings: str
    command: tuple[str, ...]
    role: Role = Role.PEER
    programs: tuple[str, ...] = ()
    ports: int = 1
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a declaration; an unknown or a missing name is a ``TypeError``."""
        values = tomllib.loads(file.read_text())
        values["format"] = FORMATS[values["format"]]
        values["role"] = Role(values.get("role", Role.PEER))
        for name in ("command", "programs"):
            values[name] = tuple(values.get(name, ()))
        return cls(directory=file.parent, **values)

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def requirements_file(self) -> Path | None:
        """Its lock, or ``None`` for a server that runs in the product's own environment."""
        file = self.directory / "requirements.txt"
        return file if file.exists() else None

    def environment_dir(self, environments_dir: Path) -> Path:
        return environments_dir / self.name if self.requirements_file else ROOT / ".venv"


@dataclass(frozen=True, slots=True)
class Launch:
    """Command and environment variables that start a server once."""

    command: list[str]
    environment: dict[str, str]


def all_servers() -> dict[str, Server]:
    """Read every declaration: ours, the peers by name, the floor."""
    files = [HERE / "ours" / "server.toml", *sorted((HERE / "peers").glob("*/server.toml"))]
    servers = sorted(map(Server.read, files), key=lambda server: list(Role).index(server.role))
    return {server.name: server for server in servers}


def launch(
    server: Server, *, environment_dir: Path, model_dir: Path, work_dir: Path, ports: list[int]
) -> Launch:
    """Fill in the placeholders of a declaration."""
    places = {
        "python": environment_dir / "bin" / "python",
        "env_dir": environment_dir,
        "root": ROOT,
        "server_dir": server.directory,
        "work_dir": work_dir,
        "model_dir": model_dir,
        "model_file": model_dir / "model.ubj",
        "port": ports[0],
        **{f"port_{index}": port for index, port in enumerate(ports[1:], start=2)},
    }
    inherited = {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ}
    given = {name: text.format_map(places) for name, text in server.variables.items()}
    path = f"{environment_dir / 'bin'}:{os.environ['PATH']}"
    return Launch(
        [word.format_map(places) for word in server.command],
        {"HOME": str(work_dir), "TMPDIR": str(work_dir), "PATH": path, **inherited, **given},
    )
