"""Boosters that were pickled, by AWS's container of old among others, without running the pickle.

Unpickling runs whatever the file says. This reader can build a booster's state out of plain values
and nothing else; anything that a file asks for besides is refused by name.
"""

import io
import pickle
from typing import Any, NoReturn

from container.errors import ModelLoadError

MAGIC = b"\x80"


class _PickledBooster:
    """Takes the place of `xgboost.core.Booster`; only holds the state."""

    state: dict[str, Any]

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


def _bytearray(source: Any = b"", encoding: str | None = None) -> bytearray:
    """`bytearray` of something that is there: given a number it would take that much memory."""
    if isinstance(source, str) and encoding in ("latin-1", "latin1"):
        return bytearray(source, "latin-1")
    if not isinstance(source, bytes):
        raise pickle.UnpicklingError("bytearray of something that is not bytes")
    return bytearray(source)


def _encode(text: Any, encoding: str = "latin1") -> bytes:
    """How old protocols write bytes: `_codecs.encode(text, "latin1")`."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("an encoding other than latin1")
    return text.encode("latin-1")


def _reconstruct(kind: Any, base: Any, state: Any) -> _PickledBooster:
    """How old protocols make an object: `copyreg._reconstructor(Booster, object, None)`."""
    if kind is not _PickledBooster or base is not object or state is not None:
        raise pickle.UnpicklingError("an object other than a booster")
    return _PickledBooster()


_ALLOWED: dict[tuple[str, str], Any] = {
    ("xgboost.core", "Booster"): _PickledBooster,
    ("builtins", "bytearray"): _bytearray,
    ("__builtin__", "bytearray"): _bytearray,
    ("_codecs", "encode"): _encode,
    ("copyreg", "_reconstructor"): _reconstruct,
    ("copy_reg", "_reconstructor"): _reconstruct,
    ("builtins", "object"): object,
    ("__builtin__", "object"): object,
}


class _BoosterUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _ForbiddenError(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _ForbiddenError("a persistent object")


class _ForbiddenError(Exception):
    """The pickle asks for something that is no part of a booster."""


def booster_state(content: bytes, name: str) -> bytes:
    """The serialised state inside a pickled booster, as `XGBoosterUnserializeFromBuffer` takes it.

    Args:
        content: The pickle.
        name: The file's name, for the message.
    Raises:
        ModelLoadError: it is not a pickled booster and nothing else.
    """
    try:
        booster = _BoosterUnpickler(io.BytesIO(content)).load()
    except _ForbiddenError as error:
        raise ModelLoadError(
            f"{name} is a pickle that asks for {error}, which is no part of a booster; pickles are "
            "not run here: save the model with Booster.save_model('model.ubj')"
        ) from error
    except Exception as error:
        raise ModelLoadError(f"{name} is not a pickled booster: {error}") from error
    state = getattr(booster, "state", {}) if isinstance(booster, _PickledBooster) else {}
    handle = state.get("handle")
    if not isinstance(handle, bytes | bytearray):
        raise ModelLoadError(f"{name} is a pickle without a booster in it")
    return bytes(handle)
