"""Discovery and reading of model files in LightGBM's text format.

A file is a header, a block for each tree, `end of trees`, and sections that predicting does not
need: importances, parameters, and the categories of a pandas frame. Lines are `name=value`.

Source: LightGBM 4.6, `gbdt_model_text.cpp` and `tree.cpp`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from container.errors import ModelLoadError
from container.manifest import ModelManifest

MODEL_FILE = "lightgbm-model.txt"

Lines = Mapping[str, bytes]

_HEAD = re.compile(rb"tree\r?\nversion=v\d")
_HEAD_BYTES = 32
_END = b"end of trees"
_PANDAS = re.compile(rb"^pandas_categorical:(.*)$", re.MULTILINE)
# LightGBM splits a line of the header at every `=` and takes an empty name for none: a name that
# is not one of these could stand for another one to it.
_NAMES = frozenset(
    {
        *("tree", "version", "num_class", "num_tree_per_iteration", "label_index", "objective"),
        *("max_feature_idx", "average_output", "feature_names", "monotone_constraints"),
        *("feature_infos", "tree_sizes"),
    }
)
_WITHOUT_VALUE = frozenset({"tree", "average_output"})
_MAX_TREE_LINES = 22  # LightGBM's own limit; it takes what follows for the next tree
_TREE_LINE = re.compile(rb"([a-z_]+)=([^\n]*)")
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class ModelText:
    """The parts of a model file, as text."""

    header: Lines
    trees: Sequence[Lines]


def model_file(directory: Path, manifest: ModelManifest | None) -> Path:
    """Return the model in a directory.

    Raises:
        ModelLoadError: there is none, or there are several and no manifest tells which.
    """
    if manifest is not None:
        if MODEL_FILE not in manifest.files:
            raise ModelLoadError(
                f"the model directory has a manifest that names no file {MODEL_FILE}"
            )
        return directory / MODEL_FILE
    found = _likely(directory)
    named = [path for path in found if path.name == MODEL_FILE]
    if not found:
        raise ModelLoadError("the model directory holds no LightGBM model")
    if len(found) > 1 and not named:
        listed = ", ".join(path.name for path in found[:5])
        raise ModelLoadError(
            f"the model directory holds several LightGBM models ({listed}); leave one, or call it "
            f"{MODEL_FILE}"
        )
    return (named or found)[0]


def recognises(directory: Path) -> bool:
    """Return True if a file begins as LightGBM's text models do."""
    return bool(_likely(directory))


def _likely(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    files = sorted(path for path in directory.iterdir() if path.is_file())
    return [path for path in files if not path.name.startswith(".") and _has_head(path)]


def _has_head(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _HEAD.match(file.read(_HEAD_BYTES)) is not None
    except OSError:
        return False


def read(file: Path) -> bytes:
    """Return what LightGBM needs of a model file: the header and the trees.

    The sections behind the trees are left out, so that nothing in them can matter.

    Raises:
        ModelLoadError: the file cannot be read, is no model in the text format, or cut short.
    """
    content = _content(file)
    end = content.find(b"\n" + _END)
    if end < 0:
        raise ModelLoadError(
            f"{file.name} is damaged: it has no line 'end of trees'; copy it again"
        )
    return content[: end + 1 + len(_END)] + b"\n"


def _content(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelLoadError(f"{file.name} cannot be read: {error.strerror}") from error
    if not _HEAD.match(content):
        raise ModelLoadError(
            f"{file.name} is not a LightGBM model in the text format: it does not begin with "
            "'tree' and 'version=v'; save it with Booster.save_model('model.txt')"
        )
    if b"\0" in content:
        raise ModelLoadError(f"{file.name} is damaged: it has a byte 0 in it; copy it again")
    return content.replace(b"\r\n", b"\n")


def pandas_categories(file: Path) -> int:
    """Return the number of columns of categories that the model was given by pandas.

    LightGBM numbers such categories itself, by their place in the file.

    Raises:
        ModelLoadError: the list of categories is damaged.
    """
    found = _PANDAS.findall(_content(file))
    try:
        categories = json.loads(found[-1]) if found else None
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(
            f"{file.name} is damaged: pandas_categorical is not a list; copy it again"
        ) from error
    return len(categories) if isinstance(categories, list) else 0


def header(content: bytes) -> Lines:
    """Return the lines of the header; raises `ValueError` as `parse`."""
    start = content.find(b"\nTree=") + 1
    return _header(content[:start] if start else content.partition(_END)[0])


def parse(content: bytes) -> ModelText:
    """Split the result of `read` into its lines, exactly as LightGBM does.

    Raises:
        ValueError: LightGBM would split it otherwise, or run beyond the end.
    """
    if b"\r" in content:
        raise ValueError("it has a carriage return in it")
    lines = header(content)
    start = content.find(b"\nTree=") + 1
    blocks = content[start : content.rfind(_END)] if start else b""
    return ModelText(lines, _trees(blocks, lines.get("tree_sizes")))


def _header(content: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for line in content.split(b"\n"):
        if not line:
            continue
        key, sign, value = line.partition(b"=")
        name = key.decode("ascii", "backslashreplace")
        if name not in _NAMES or bool(sign) == (name in _WITHOUT_VALUE):
            raise ValueError(f"the line {name[:_SHOWN]!r} of its header is not known")
        if name in found:
            raise ValueError(f"its header has {name} twice")
        found[name] = value
    return found


def _trees(blocks: bytes, sizes: bytes | None) -> list[Lines]:
    texts: list[bytes] = []
    if sizes is None:  # up to 2.1
        texts = [b"Tree=" + text for text in (b"\n" + blocks).split(b"\nTree=")[1:]]
    else:
        position = 0
        for token in sizes.split(b" "):
            if not token:
                continue
            if not token.isdigit() or len(token) > 18:
                raise ValueError("tree_sizes are not whole numbers")
            texts.append(blocks[position : position + int(token)])
            position += int(token)
        if position != len(blocks):
            raise ValueError(f"tree_sizes add up to {position} bytes, the trees to {len(blocks)}")
    return [_tree(text, index) for index, text in enumerate(texts)]


def _tree(text: bytes, index: int) -> Lines:
    first, *lines = text.split(b"\n")
    if first != b"Tree=%d" % index:
        raise ValueError(f"tree {index} is not where tree_sizes say")
    found: dict[str, bytes] = {}
    for number, line in enumerate(lines):
        if not line:
            # An empty line ends a tree: without one LightGBM reads on into what follows it.
            is_ended = number < len(lines) - 1 and not any(lines[number:])
            if not is_ended or number > _MAX_TREE_LINES:
                break
            return found
        match = _TREE_LINE.fullmatch(line)
        if match is None:
            break
        name = match[1].decode()
        if name in found:
            raise ValueError(f"tree {index} has {name} twice")
        found[name] = match[2]
    raise ValueError(f"tree {index} has lines that are not name=value, too many, or no end")
