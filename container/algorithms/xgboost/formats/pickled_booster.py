"""Restricted unpickler of boosters, which AWS's old containers wrote, and of estimators.

Plain unpickling runs any code that the file names. This reader builds a booster's state from plain
values, alone or inside one of XGBoost's scikit-learn estimators. Objects of NumPy and scikit-learn
in an estimator become inert placeholders. The bytes of an array that `joblib.dump` writes into the
pickle are skipped. Every other name in a pickle is refused, and named in the message.
"""

import io
import math
import pickle
import re
import struct
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, NoReturn, Self

import numpy as np

from container.errors import ModelLoadError

_SHOWN = 100  # characters of a file's text in a message
_ADVICE = (
    "pickles are not run here: save the model with Booster.save_model('model.ubj'), an estimator's "
    "with get_booster().save_model('model.ubj'), which drops the estimator's `missing`: if that is "
    "not NaN, leave such cells empty in requests"
)
_MAX_DIMENSIONS = 64  # NumPy's own limit
# Fixed sizes that `numpy.dtype` names: numbers, Booleans, strings, times; no objects, no records.
_SIZED = re.compile(r"[biufcSUmM]\d{1,9}")


class _Pickled:
    """Placeholder of an object; only holds its state."""

    state: dict[str, Any]

    def __new__(cls) -> Self:
        pickled = super().__new__(cls)  # unpickling does not call `__init__`
        pickled.state = {}
        return pickled

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


class _PickledBooster(_Pickled):
    """Placeholder of `xgboost.core.Booster`."""


class _PickledEstimator(_Pickled):
    """Placeholder of `xgboost.sklearn.XGBClassifier` and other estimators."""


class _Inert:
    """Placeholder of all else in an estimator, such as the names of the classes; does nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> Self:
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _InertMapping(_Inert):
    """Placeholder of a mapping, such as the evaluation history."""

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class _DType(_Inert):
    """Placeholder of `numpy.dtype`; knows the size of an element."""

    code: object

    def __new__(cls, code: Any = None, *arguments: Any, **named: Any) -> Self:
        dtype = super().__new__(cls)
        dtype.code = code
        return dtype

    def item_bytes(self) -> int:
        if not isinstance(self.code, str) or not _SIZED.fullmatch(self.code):
            raise pickle.UnpicklingError("an array whose elements are not numbers or text")
        return np.dtype(self.code).itemsize


def _array_in(stream: io.BytesIO) -> type[_Inert]:
    """Return a placeholder of joblib's `NumpyArrayWrapper` that skips the array's bytes.

    The bytes follow the instruction that sets the wrapper's state, after one byte with the length
    of the padding and the padding itself; files of joblib before 1.2 have neither.
    """

    class _Array(_Inert):
        def __setstate__(self, state: Any) -> None:
            shape, dtype = state["shape"], state["dtype"]
            if not isinstance(dtype, _DType) or not isinstance(shape, tuple):
                raise pickle.UnpicklingError("an array without a type or a shape")
            if len(shape) > _MAX_DIMENSIONS or not all(
                isinstance(length, int) and 0 <= length < 2**63 for length in shape
            ):
                raise pickle.UnpicklingError("an array whose shape is not one")
            n_bytes = math.prod(shape) * dtype.item_bytes()
            if state.get("numpy_array_alignment_bytes") is not None:
                n_bytes += stream.read(1)[0]
            if n_bytes > len(stream.getbuffer()) - stream.tell():
                raise pickle.UnpicklingError("an array that is larger than the file")
            stream.seek(n_bytes, io.SEEK_CUR)

    return _Array


class _Function:
    """A callable for pickles, without attributes: a pickle could set them for the next one."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("a state for a function")


class _ByteArray(_Function):
    """`bytearray` of bytes or text only: given a number it would allocate that much memory."""

    __slots__ = ()

    def __call__(self, source: Any = b"", encoding: str | None = None) -> bytearray:
        if isinstance(source, str) and encoding in ("latin-1", "latin1"):
            return bytearray(source, "latin-1")
        if not isinstance(source, bytes):
            raise pickle.UnpicklingError("bytearray of something that is not bytes")
        return bytearray(source)


class _Encode(_Function):
    """Bytes in old protocols: `_codecs.encode(text, "latin1")`."""

    __slots__ = ()

    def __call__(self, text: Any, encoding: str = "latin1") -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("an encoding other than latin1")
        return text.encode("latin-1")


class _Reconstruct(_Function):
    """Objects in old protocols: `copyreg._reconstructor(Booster, object, None)`."""

    __slots__ = ()

    def __call__(self, kind: Any, base: Any, state: Any) -> Any:
        if kind not in (_PickledBooster, _PickledEstimator, _Inert, _InertMapping):
            raise pickle.UnpicklingError("an object other than a booster")
        if base is not object or state is not None:
            raise pickle.UnpicklingError("an object with a base")
        return kind()


_ALLOWED: dict[tuple[str, str], Any] = {
    ("xgboost.core", "Booster"): _PickledBooster,
    ("builtins", "bytearray"): _ByteArray(),
    ("__builtin__", "bytearray"): _ByteArray(),
    ("_codecs", "encode"): _Encode(),
    ("copyreg", "_reconstructor"): _Reconstruct(),
    ("copy_reg", "_reconstructor"): _Reconstruct(),
    ("builtins", "object"): object,
    ("__builtin__", "object"): object,
    ("collections", "OrderedDict"): _InertMapping,
    ("numpy", "dtype"): _DType,
}


# Packages of an estimator's other members: arrays, label encoders, callbacks and evaluations.
_INERT_PACKAGES = ("numpy", "sklearn")
_INERT_MODULES = ("xgboost.compat", "xgboost.callback")


class _BoosterUnpickler(pickle._Unpickler):
    """Unpickler on top of the pure-Python one, which allocates memory for existing bytes only.

    The one in C allocates what nine bytes announce: a memo of 34 GB, or a string of 4 GB.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, content: bytes) -> None:
        stream = io.BytesIO(content)
        super().__init__(stream)
        self._array = _array_in(stream)

    def load_bytearray8(self: Any) -> None:
        """Read before allocating; the inherited method allocates first."""
        (n_bytes,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(n_bytes)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module == "xgboost.sklearn" and name.startswith("XGB"):
            return _PickledEstimator
        if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
            return self._array
        if module.partition(".")[0] in _INERT_PACKAGES or module in _INERT_MODULES:
            return _Inert
        raise _ForbiddenError(f"{module}.{name}"[:_SHOWN])

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _ForbiddenError("a persistent object")


class _ForbiddenError(Exception):
    """The pickle names an object that is not part of a booster."""


class PickledModel(NamedTuple):
    """Content of a pickle.

    `state` is the input of `XGBoosterUnserializeFromBuffer`; `missing` is a number for a missing
    value besides NaN. Up to XGBoost 1.3 the feature names are outside the state.
    """

    state: bytes
    missing: float
    feature_names: tuple[str, ...] = ()


def read(content: bytes, name: str) -> PickledModel:
    """Read the booster in a pickle.

    Args:
        content: The pickle.
        name: The file's name, for the message.
    Raises:
        ModelLoadError: the content is not a pickled booster or estimator, or holds other objects.
    """
    try:
        pickled = _BoosterUnpickler(content).load()
    except _ForbiddenError as error:
        raise ModelLoadError(
            f"{name} is a pickle that asks for {error}, which is not part of a booster; {_ADVICE}"
        ) from error
    except Exception as error:
        problem = str(error)[:_SHOWN] or "it ends early"
        raise ModelLoadError(f"{name} is not a pickled booster: {problem}; {_ADVICE}") from error
    missing = math.nan
    if isinstance(pickled, _PickledEstimator):
        missing = _missing(pickled.state.get("missing"), name)
        pickled = pickled.state.get("_Booster")
    handle = pickled.state.get("handle") if isinstance(pickled, _PickledBooster) else None
    if not isinstance(handle, bytes | bytearray):
        raise ModelLoadError(f"{name} is a pickle without a booster in it; {_ADVICE}")
    return PickledModel(bytes(handle), missing, _names(pickled.state.get("feature_names")))


def _names(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    # XGBoost's own names for data without names; later versions omit them.
    is_placeholder = all(name == f"f{index}" for index, name in enumerate(names))
    return () if is_placeholder else tuple(names)


def _missing(missing: Any, name: str) -> float:
    """Return the number that an estimator, not its booster, reads as a missing value."""
    if missing is None:
        return math.nan
    if isinstance(missing, float) or (isinstance(missing, int) and missing.bit_length() <= 64):
        return float(missing)
    raise ModelLoadError(
        f"{name} is an estimator whose `missing` is not a plain number; set it to one before you "
        "save it, e.g. estimator.set_params(missing=-999.0)"
    )
