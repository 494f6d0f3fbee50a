"""Boosters that were pickled, by AWS's container of old among others, without running the pickle.

Unpickling runs whatever the file says. This reader can build a booster's state out of plain values,
alone or inside one of XGBoost's scikit-learn estimators; what NumPy and scikit-learn put into an
estimator becomes an object that does nothing. Anything that a file asks for besides is refused by
name.
"""

import io
import math
import pickle
from typing import Any, NoReturn, Self

from container.errors import ModelLoadError

_SHOWN = 100  # characters of what a file says
_ADVICE = (
    "pickles are not run here: save the model with Booster.save_model('model.ubj'), an estimator's "
    "with get_booster().save_model('model.ubj')"
)


class _Pickled:
    """Takes the place of an object; only holds the state."""

    state: dict[str, Any]

    def __new__(cls) -> Self:
        pickled = super().__new__(cls)  # which is all that unpickling calls
        pickled.state = {}
        return pickled

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


class _PickledBooster(_Pickled):
    """Takes the place of `xgboost.core.Booster`."""


class _PickledEstimator(_Pickled):
    """Takes the place of `xgboost.sklearn.XGBClassifier` and its like."""


class _Inert:
    """Takes the place of the classes' names and whatever else an estimator keeps."""

    def __new__(cls, *arguments: Any, **named: Any) -> Self:
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _InertMapping(_Inert):
    """Takes the place of a dictionary of some kind, such as what each round was evaluated to."""

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class _Function:
    """What a pickle may call. A pickle may set attributes of what it has: here there are none."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("a state for a function")


class _ByteArray(_Function):
    """`bytearray` of something that is there: given a number it would take that much memory."""

    __slots__ = ()

    def __call__(self, source: Any = b"", encoding: str | None = None) -> bytearray:
        if isinstance(source, str) and encoding in ("latin-1", "latin1"):
            return bytearray(source, "latin-1")
        if not isinstance(source, bytes):
            raise pickle.UnpicklingError("bytearray of something that is not bytes")
        return bytearray(source)


class _Encode(_Function):
    """How old protocols write bytes: `_codecs.encode(text, "latin1")`."""

    __slots__ = ()

    def __call__(self, text: Any, encoding: str = "latin1") -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("an encoding other than latin1")
        return text.encode("latin-1")


class _Reconstruct(_Function):
    """How old protocols make an object: `copyreg._reconstructor(Booster, object, None)`."""

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
}


# What an estimator keeps beside its booster: arrays, label encoders, callbacks and evaluations.
_INERT_PACKAGES = ("numpy", "sklearn")
_INERT_MODULES = ("xgboost.compat", "xgboost.callback")


class _BoosterUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module == "xgboost.sklearn" and name.startswith("XGB"):
            return _PickledEstimator
        if module.partition(".")[0] in _INERT_PACKAGES or module in _INERT_MODULES:
            return _Inert
        raise _ForbiddenError(f"{module}.{name}"[:_SHOWN])

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
        pickled = _BoosterUnpickler(io.BytesIO(_as_far_as_sound(content))).load()
    except _ForbiddenError as error:
        raise ModelLoadError(
            f"{name} is a pickle that asks for {error}, which is no part of a booster; {_ADVICE}"
        ) from error
    except Exception as error:
        problem = str(error)[:_SHOWN]
        raise ModelLoadError(f"{name} is not a pickled booster: {problem}; {_ADVICE}") from error
    if isinstance(pickled, _PickledEstimator):
        _check_missing(pickled.state.get("missing"), name)
        pickled = pickled.state.get("_Booster")
    handle = pickled.state.get("handle") if isinstance(pickled, _PickledBooster) else None
    if not isinstance(handle, bytes | bytearray):
        raise ModelLoadError(f"{name} is a pickle without a booster in it; {_ADVICE}")
    return bytes(handle)


def _as_far_as_sound(content: bytes) -> bytes:
    """The pickle up to its end, or to where something is announced that is not there.

    The unpickler takes the memory that it is told of before it looks for what belongs there.

    Raises:
        UnpicklingError: it puts something at a place of its memo that no pickler would: nine bytes
            can make the memo 34 GB large.
    """
    import pickletools  # 3 ms, for pickles only

    stream = io.BytesIO(content)
    end = 0
    try:
        for n_before, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if "PUT" in opcode.name and (argument or 0) > n_before:
                raise pickle.UnpicklingError(f"memo place {argument} after {n_before} instructions")
            end = stream.tell()
    except ValueError:
        pass  # joblib has arrays follow what asks for them: that is refused for its name
    return content[:end]


def _check_missing(missing: Any, name: str) -> None:
    """An estimator may take another value than NaN for missing, which its booster knows not of."""
    if missing is None or (isinstance(missing, float) and math.isnan(missing)):
        return
    shown = "another value than NaN"  # whatever else it is, its text may have no end
    if isinstance(missing, float) or (isinstance(missing, int) and missing.bit_length() <= 64):
        shown = repr(missing)
    raise ModelLoadError(
        f"{name} is an estimator that takes {shown} for a missing value, which a booster does "
        "not; train it with missing=numpy.nan"
    )
