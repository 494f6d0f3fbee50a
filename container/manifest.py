"""Model manifest: the description of a model artifact, in the artifact.

`train` writes it beside the model files. `serve` reads from it which files to load and the layout
of a record. It holds no time and no host, so that the same job leaves the same bytes.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from container import __version__
from container.errors import ModelLoadError
from container.schema import Schema

MANIFEST_FILE = "byoa-manifest.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Framework(_Strict):
    """The library that made the model, and its version."""

    name: str
    version: str


class FileRecord(_Strict):
    """One file of the artifact."""

    sha256: str
    n_bytes: int


class ModelFacts(_Strict):
    """Facts about a saved model, from its algorithm."""

    framework: Framework
    n_features: int
    n_outputs: int = 1
    feature_names: list[str] | None = None  # of all features, where the records had names
    objective: str | None = None
    best_iteration: int | None = None
    records: Schema | None = None  # of an algorithm whose records are a table
    # One record, value by value, NaN and missing cells as null: what a client may send.
    example: list[float | str | None] | None = None


class ModelManifest(_Strict):
    """The whole manifest; `files` maps names relative to the model directory."""

    schema_version: Literal[1] = 1
    container_version: str = __version__
    algorithm: str
    model: ModelFacts
    # Number of the first libsvm column; None if no record of the training was libsvm. Manifests
    # without the field are older, and their models count from 0.
    libsvm_base: Literal[0, 1] | None = 0
    files: dict[str, FileRecord]


def write(
    directory: Path,
    algorithm: str,
    model: ModelFacts,
    *,
    libsvm_base: Literal[0, 1] | None = None,
) -> ModelManifest:
    """Describe every file in `directory` and write the manifest beside them."""
    files = {
        path.relative_to(directory).as_posix(): FileRecord(
            sha256=_sha256(path), n_bytes=path.stat().st_size
        )
        for path in _regular_files(directory)
    }
    manifest = ModelManifest(algorithm=algorithm, model=model, libsvm_base=libsvm_base, files=files)
    without = {name for name in ("records", "example") if getattr(model, name) is None}
    text = manifest.model_dump_json(indent=2, exclude={"model": without})
    (directory / MANIFEST_FILE).write_text(text + "\n", "utf-8")
    return manifest


def read(directory: Path) -> ModelManifest | None:
    """Read the manifest of the artifact in `directory`; None without a manifest.

    Raises:
        ModelLoadError: the manifest is malformed, names a file outside `directory` (path
            traversal), or a file is missing or has another digest.
    """
    file = directory / MANIFEST_FILE
    try:
        manifest = ModelManifest.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ModelLoadError(f"{MANIFEST_FILE}: {where}: {first['msg']}") from error
    for name, record in manifest.files.items():
        path = directory / name
        # Path traversal: an absolute name or `..` would lead outside.
        if not name or directory not in path.parents or ".." in path.parts:
            raise ModelLoadError(f"{MANIFEST_FILE} names {name!r}, outside the model directory")
        if not path.is_file():
            raise ModelLoadError(f"{MANIFEST_FILE} names {name!r}, which is missing")
        if path.stat().st_size != record.n_bytes or _sha256(path) != record.sha256:
            raise ModelLoadError(
                f"{name!r} is not the file that {MANIFEST_FILE} describes (its sha256 differs); "
                "copy the artifact again, or delete the manifest to serve the file as it is"
            )
    return manifest


def _regular_files(directory: Path) -> Iterable[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
