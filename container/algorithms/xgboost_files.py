"""Which files of a model directory are XGBoost models, by content rather than by name.

One model is the usual case. Several are an ensemble, as AWS's container has it: the files of a
k-fold job are called `xgboost-model-0`, `xgboost-model-1`, … Files of other systems are passed over
(C-060).
"""

import re
from collections.abc import Iterable
from pathlib import Path

from container.algorithms import ubjson
from container.algorithms.xgboost_pickle import booster_state
from container.errors import ModelLoadError
from container.manifest import ModelManifest

MODEL_FILE = "xgboost-model"

_HEAD_BYTES = 512
# A model begins with its `learner`, and some versions wrote `version` first.
_MODEL_HEAD = re.compile(rb"\{.{0,12}(learner|version)", re.DOTALL)
_PICKLE_HEAD = re.compile(rb"\x80[\x02-\x05]|ccopy_reg\n_reconstructor|ccopyreg\n_reconstructor")
_LEGACY_HEADS = (b"binf", b"bs64", b"CONFIG-offset:")
_SUFFIXES = (".ubj", ".json", ".pkl", ".pickle", ".bin", ".model", ".xgb")


def model_files(directory: Path, manifest: ModelManifest | None) -> list[Path]:
    """The model, or the models of an ensemble in the order of their numbers.

    Raises:
        ModelLoadError: a file that is named as a model is none.
    """
    if manifest is not None:
        names: Iterable[str] = manifest.files
        return sorted((directory / name for name in names if _is_numbered(name)), key=_natural)
    if not directory.is_dir():
        return []
    regular = [path for path in directory.iterdir() if path.is_file()]
    found = [path for path in regular if not path.name.startswith(".") and _looks_like_model(path)]
    return sorted(found, key=_natural)


def read_model(file: Path) -> bytes | memoryview:
    """The model in `file` as UBJSON or JSON, whatever it was wrapped in.

    Raises:
        ModelLoadError: the file cannot be read, or is not a model in a form that is read.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelLoadError(f"{file.name} cannot be read: {error.strerror}") from error
    if content.startswith(_LEGACY_HEADS):
        raise _too_old(file.name)
    if _PICKLE_HEAD.match(content):
        state = booster_state(content, file.name)
        try:
            return ubjson.member(state, "Model")
        except ValueError as error:
            raise _too_old(file.name) from error
    if not content.startswith(b"{"):
        problem = "it does not begin with a brace" if content else "it is empty"
        raise ModelLoadError(
            f"{file.name} is not an XGBoost model in UBJSON or JSON ({problem}); save it with "
            "Booster.save_model('model.ubj') and a current XGBoost"
        )
    return content


def _too_old(name: str) -> ModelLoadError:
    return ModelLoadError(
        f"{name} is in the binary format that XGBoost 3.1 removed; load it with XGBoost 2.1 to 3.0 "
        "and save it with Booster.save_model('model.ubj')"
    )


def _is_numbered(name: str) -> bool:
    return re.fullmatch(rf"{MODEL_FILE}(-\d+)?", name) is not None


def _looks_like_model(path: Path) -> bool:
    if _is_numbered(path.name):
        return True  # if it is none after all, that is worth an error
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    if _MODEL_HEAD.match(head):
        return True
    named_so = path.suffix in _SUFFIXES
    return named_so and bool(_PICKLE_HEAD.match(head) or head.startswith(_LEGACY_HEADS))


def _natural(path: Path) -> list[tuple[int, str]]:
    """`model-10` after `model-9`."""
    pieces = re.split(r"(\d+)", path.name)
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in pieces]
