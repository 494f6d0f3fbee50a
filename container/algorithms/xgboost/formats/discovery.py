"""Discovery of the XGBoost models in a model directory.

Several models are an ensemble, as in AWS's container: a k-fold job leaves `xgboost-model-0`,
`xgboost-model-1`, … If a file has such a name, only files with such names are models; otherwise the
content decides. Foreign files are ignored (C-060).
"""

import json
import logging
import math
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from container.algorithms.xgboost.formats import (
    decompression,
    legacy_binary,
    pickled_booster,
    ubjson,
    validation,
)
from container.errors import ModelLoadError
from container.manifest import ModelManifest

MODEL_FILE = "xgboost-model"

logger = logging.getLogger(__name__)

_HEAD_BYTES = 512
# A model's members are its `learner`, an object, and its `version`, an array.
_JSON_HEAD = re.compile(
    rb'\s*\{\s*("version"\s*:\s*\[[\d,\s]*\]\s*,\s*)?"learner"\s*:\s*\{', re.DOTALL
)
_UBJSON_HEAD = re.compile(rb"\{(L.{8}|l.{4}|I.{2}|[iU].)(learner\{|version\[)", re.DOTALL)
_CHECKPOINT = "xgboost-checkpoint"  # training state, of AWS's container or this one
_PICKLE_HEAD = re.compile(rb"\x80[\x02-\x05]|ccopy_reg\n_reconstructor|ccopyreg\n_reconstructor")
_COMPRESSED_SUFFIXES = (".z", ".gz", ".bz2", ".xz", ".lzma", ".lz4")
_SUFFIXES = (".ubj", ".json", ".pkl", ".pickle", ".joblib", ".bin", ".model", ".xgb")


def model_files(directory: Path, manifest: ModelManifest | None) -> list[Path]:
    """Return the model, or the models of an ensemble in the order of their numbers."""
    if manifest is not None:
        names: Iterable[str] = manifest.files
        return sorted((directory / name for name in names if _is_numbered(name)), key=_natural)
    likely = _likely(directory)
    if len(likely) == 1 or all(_is_numbered(path.name) for path in likely):
        return likely  # loading reports one that is not a model
    problems = {path: _foreign(path) for path in likely}
    models = [path for path, problem in problems.items() if problem is None]
    if not models:
        return likely  # loading the first reports its problem
    for path, problem in problems.items():
        if problem is not None:
            _warn_once(path, problem)
    return models


def recognises(directory: Path) -> bool:
    """Return True if a file may be a model, by its name and first bytes."""
    return bool(_likely(directory))


def _likely(directory: Path) -> list[Path]:
    """Return the files that may be the models of a directory without a manifest."""
    if not directory.is_dir():
        return []
    regular = sorted((path for path in directory.iterdir() if path.is_file()), key=_natural)
    numbered = [path for path in regular if _is_numbered(path.name)]
    return numbered or [path for path in regular if _looks_like_model(path)]


@lru_cache
def _warn_once(path: Path, reason: str) -> None:
    """Log, once a process, that a file looked like a model and is ignored."""
    logger.warning("file_passed_over", extra={"file": path.name, "reason": reason})


def _foreign(path: Path) -> str | None:
    """Return the reason why a file is not a model; None for a model, damaged or not."""
    try:
        model = read_model(path)
    except ModelLoadError as error:
        return error.message
    return "it is not XGBoost's" if validation.is_foreign(model.content) else None


class StoredModel(NamedTuple):
    """A model in UBJSON or JSON, and facts that these formats do not hold.

    `missing` is a number for a missing value besides NaN; `feature_names` are empty if the model
    itself has the names, or there are none.
    """

    content: bytes | memoryview
    missing: float = math.nan
    feature_names: tuple[str, ...] = ()


def read_model(file: Path) -> StoredModel:
    """Read the model in `file`: UBJSON, JSON, binary or pickle, compressed or not.

    Raises:
        ModelLoadError: the file cannot be read, or is not a model in a supported form.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelLoadError(f"{file.name} cannot be read: {error.strerror}") from error
    if decompression.is_compressed(content) and not legacy_binary.is_binary(content):
        content = decompression.decompress(content, file.name)
    if _PICKLE_HEAD.match(content):
        pickled = pickled_booster.read(content, file.name)
        model = _model_of_state(pickled.state, file.name)
        return StoredModel(model, pickled.missing, pickled.feature_names)
    if legacy_binary.is_binary(content):
        return StoredModel(legacy_binary.convert(content, file.name))
    if content[:1].isspace():
        content = content.lstrip()
    if not content.startswith(b"{"):
        problem = "it does not begin with a brace" if content else "it is empty"
        raise ModelLoadError(
            f"{file.name} is not an XGBoost model in UBJSON or JSON ({problem}); save it with "
            "Booster.save_model('model.ubj') and a current XGBoost"
        )
    return StoredModel(content)


def _model_of_state(state: bytes, name: str) -> bytes | memoryview:
    """Return the model in a pickled booster: binary up to 1.2, then JSON, from 1.6 UBJSON."""
    if legacy_binary.is_binary(state):
        return legacy_binary.convert(state, name)
    try:
        if state.startswith(b'{"'):
            return json.dumps(validation.parse(state)["Model"]).encode()
        return ubjson.member(state, "Model")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelLoadError(f"{name} is a pickle with a damaged booster: {error}") from error


def _is_numbered(name: str) -> bool:
    return re.fullmatch(rf"{MODEL_FILE}(-\d+)?", name) is not None


def _looks_like_model(path: Path) -> bool:
    if path.name.startswith((".", _CHECKPOINT)):
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    if _JSON_HEAD.match(head) or _UBJSON_HEAD.match(head) or legacy_binary.is_binary(head):
        return True
    suffix = path.suffix
    if suffix in _COMPRESSED_SUFFIXES:
        suffix = Path(path.stem).suffix or suffix  # `model.joblib.gz`, but not `data.csv.gz`
    if decompression.is_compressed(head):
        return suffix in (*_SUFFIXES, *_COMPRESSED_SUFFIXES)
    return suffix in _SUFFIXES and bool(_PICKLE_HEAD.match(head))


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key of natural order: `model-10` after `model-9`."""
    pieces = re.split(r"(\d+)", path.name)
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in pieces]
