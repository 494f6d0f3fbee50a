"""Bindings of XGBoost's public C interface, for serving.

A server does not import the `xgboost` package: that pulls in scipy and, where installed, pandas,
pyarrow and scikit-learn (62 to 213 MB and 0.3 to 0.8 s a process, against 30 MB and 0.06 s for
NumPy and the library alone), and its fastest prediction costs 200 µs a request, mostly in Python,
where `XGBoosterPredictFromDense` costs 30 µs. The C interface is documented and stable.

Source: XGBoost documentation, "C API", of 3.2 and 3.4.
"""

import ctypes
import importlib.util
import json
import math
import threading
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from container.codecs.records import Floats, SparseRows
from container.host_paths import shorten


class XGBoostLibraryError(Exception):
    """The library's own message, without its source paths and stack trace."""


_MESSAGE_FUNCTION = ctypes.CFUNCTYPE(None, c_char_p)


@cache
def _library() -> ctypes.CDLL:
    package = importlib.util.find_spec("xgboost")
    if package is None or not package.submodule_search_locations:
        raise XGBoostLibraryError("the package xgboost is not installed")
    file = Path(package.submodule_search_locations[0]) / "lib" / "libxgboost.so"
    library = ctypes.CDLL(str(file))
    library.XGBGetLastError.restype = c_char_p
    for name, *arguments in (
        ("XGBoosterCreate", c_void_p, c_uint64, POINTER(c_void_p)),
        ("XGBoosterFree", c_void_p),
        ("XGBoosterSetParam", c_void_p, c_char_p, c_char_p),
        ("XGBoosterLoadModelFromBuffer", c_void_p, c_void_p, c_uint64),
        ("XGBoosterGetNumFeature", c_void_p, POINTER(c_uint64)),
        ("XGBoosterBoostedRounds", c_void_p, POINTER(c_int)),
        ("XGBRegisterLogCallback", _MESSAGE_FUNCTION),
        ("XGBoostVersion", POINTER(c_int), POINTER(c_int), POINTER(c_int)),
        ("XGBoosterGetAttr", c_void_p, c_char_p, POINTER(c_char_p), POINTER(c_int)),
        (
            "XGBoosterGetStrFeatureInfo",
            *(c_void_p, c_char_p, POINTER(c_uint64), POINTER(POINTER(c_char_p))),
        ),
        ("XGBoosterSaveJsonConfig", c_void_p, POINTER(c_uint64), POINTER(c_char_p)),
        ("XGProxyDMatrixCreate", POINTER(c_void_p)),
        ("XGBoosterPredictFromDense", *(c_void_p, c_char_p, c_char_p, c_void_p), *_OUTPUT),
        (
            "XGBoosterPredictFromCSR",
            *(c_void_p, c_char_p, c_char_p, c_char_p, c_uint64, c_char_p, c_void_p),
            *_OUTPUT,
        ),
        ("XGDMatrixCreateFromDense", c_char_p, c_char_p, POINTER(c_void_p)),
        ("XGDMatrixCreateFromCSR", *(c_char_p,) * 3, c_uint64, c_char_p, POINTER(c_void_p)),
        ("XGDMatrixFree", c_void_p),
        ("XGBoosterPredictFromDMatrix", c_void_p, c_void_p, c_char_p, *_OUTPUT),
    ):
        getattr(library, name).argtypes = arguments
    return library


_OUTPUT = (POINTER(POINTER(c_uint64)), POINTER(c_uint64), POINTER(POINTER(c_float)))


class _Scratch:
    """Buffers and proxy matrix that one thread reuses for the predictions of all models.

    Without a given proxy the library creates one for every prediction, which reads the CPU quota
    from the kernel: 10 µs of 20.
    """

    def __init__(self) -> None:
        library = _library()
        self.proxy = c_void_p()
        library.XGProxyDMatrixCreate(byref(self.proxy))
        self._free = library.XGDMatrixFree
        self.shape = POINTER(c_uint64)()
        self.n_dimensions = c_uint64()
        self.values = POINTER(c_float)()
        self.output = (byref(self.shape), byref(self.n_dimensions), byref(self.values))
        self._records: dict[int, tuple[Floats, bytes]] = {}  # by width

    def __del__(self) -> None:
        self._free(self.proxy)

    def interface(self, features: Floats) -> bytes:
        """Return the array interface of dense features.

        A single record is copied to a fixed buffer, so that its description is made once.
        """
        if len(features) != 1:
            return _interface(features)
        width = features.shape[1]
        if width not in self._records:
            record = np.empty((1, width), dtype=np.float32)
            self._records[width] = record, _interface(record)
        record, interface = self._records[width]
        record[:] = features
        return interface

    def predictions(self) -> Floats:
        """Return a copy: the thread's next prediction reuses the library's buffer."""
        n_rows = self.shape[0]
        n_outputs = self.shape[1] if self.n_dimensions.value > 1 else 1
        n_bytes = n_rows * n_outputs * ctypes.sizeof(c_float)
        flat = np.frombuffer(ctypes.string_at(self.values, n_bytes), dtype=np.float32)
        return flat if n_outputs == 1 else flat.reshape(n_rows, n_outputs)


class _ThreadsOwn(threading.local):
    scratch: _Scratch | None = None


_own = _ThreadsOwn()


def _scratch() -> _Scratch:
    scratch = _own.scratch
    if scratch is None:
        scratch = _own.scratch = _Scratch()
    return scratch


def on_message(function: Callable[[bytes], None]) -> None:
    """Register `function` as receiver of the library's log messages in this thread.

    Importing the package `xgboost` registers a function of its own.
    """
    _library().XGBRegisterLogCallback(_message_callback(function))


@cache
def _message_callback(function: Callable[[bytes], None]) -> object:
    """Return a C callback for `function`; the cache keeps it alive."""
    return _MESSAGE_FUNCTION(function)


def clean_message(text: str) -> str:
    """Cut the time stamp, source path and stack trace from one of the library's errors."""
    text = text.partition("Stack trace:")[0].strip()
    if text.startswith("["):
        text = text.partition("] ")[2]
        path, _, rest = text.partition(": ")
        text = rest if "/" in path else text
    return shorten(" ".join(text.split()))


def installed_version() -> tuple[int, int, int]:
    """The library's version."""
    major, minor, patch = c_int(), c_int(), c_int()
    _library().XGBoostVersion(byref(major), byref(minor), byref(patch))
    return major.value, minor.value, patch.value


class Booster:
    """A model in the library's memory. Predicting is safe from several threads at once."""

    def __init__(self, content: bytes | memoryview, *, n_threads: int) -> None:
        """Load a model in UBJSON or JSON.

        Args:
            content: The bytes of the model file; not kept.
            n_threads: OpenMP threads of one prediction.
        Raises:
            XGBoostLibraryError: this version of XGBoost cannot read the model.
        """
        self._library = _library()
        self._handle = c_void_p()
        self._call("XGBoosterCreate", None, 0, byref(self._handle))
        self._call("XGBoosterSetParam", self._handle, b"nthread", str(n_threads).encode())
        buffer = np.frombuffer(content, dtype=np.uint8)
        self._call("XGBoosterLoadModelFromBuffer", self._handle, buffer.ctypes.data, buffer.nbytes)

    def __del__(self) -> None:
        if self._handle.value:
            self._library.XGBoosterFree(self._handle)

    def n_features(self) -> int:
        """Width of a record."""
        count = c_uint64()
        self._call("XGBoosterGetNumFeature", self._handle, byref(count))
        return count.value

    def n_rounds(self) -> int:
        """Number of boosting rounds in the model."""
        count = c_int()
        self._call("XGBoosterBoostedRounds", self._handle, byref(count))
        return count.value

    def attribute(self, name: str) -> str | None:
        """An attribute that training stored in the model, e.g. `best_iteration`."""
        value, found = c_char_p(), c_int()
        self._call("XGBoosterGetAttr", self._handle, name.encode(), byref(value), byref(found))
        return value.value.decode() if found.value and value.value is not None else None

    def feature_names(self) -> tuple[str, ...]:
        """Names of the features; empty for a model that was trained without names."""
        count, names = c_uint64(), POINTER(c_char_p)()
        self._call(
            *("XGBoosterGetStrFeatureInfo", self._handle, b"feature_name"),
            *(byref(count), byref(names)),
        )
        found = (names[number] or b"" for number in range(count.value))
        return tuple(name.decode(errors="backslashreplace") for name in found)

    def config(self) -> dict[str, Any]:
        """The model's own configuration: objective, booster, number of classes."""
        length, text = c_uint64(), c_char_p()
        self._call("XGBoosterSaveJsonConfig", self._handle, byref(length), byref(text))
        config: dict[str, Any] = json.loads(text.value or b"{}")
        return config

    def predict(self, features: Floats | SparseRows, config: bytes) -> Floats:
        """Predict without building a DMatrix.

        Args:
            features: Float32 `[n_rows, n_features]`, C-contiguous, or sparse rows.
            config: A result of `prediction_config`.
        """
        scratch = _scratch()
        if isinstance(features, SparseRows):
            self._call(
                *("XGBoosterPredictFromCSR", self._handle, *_csr(features), config),
                *(scratch.proxy, *scratch.output),
            )
        else:
            self._call(
                *("XGBoosterPredictFromDense", self._handle, scratch.interface(features), config),
                *(scratch.proxy, *scratch.output),
            )
        return scratch.predictions()

    def predict_by_matrix(self, features: Floats | SparseRows, config: bytes) -> Floats:
        """Predict through a DMatrix, which a linear booster requires."""
        matrix = c_void_p()
        if isinstance(features, SparseRows):
            self._call("XGDMatrixCreateFromCSR", *_csr(features), config, byref(matrix))
        else:
            self._call("XGDMatrixCreateFromDense", _interface(features), config, byref(matrix))
        scratch = _scratch()
        try:
            self._call("XGBoosterPredictFromDMatrix", self._handle, matrix, config, *scratch.output)
            return scratch.predictions()
        finally:
            self._library.XGDMatrixFree(matrix)

    def _call(self, name: str, *arguments: object) -> None:
        if getattr(self._library, name)(*arguments) != 0:
            message = self._library.XGBGetLastError().decode(errors="replace")
            if "bad_alloc" in message:
                raise MemoryError("XGBoost could not allocate memory")
            raise XGBoostLibraryError(clean_message(message))


def prediction_config(*, n_rounds: int, missing: float = math.nan) -> bytes:
    """Return the JSON arguments of a prediction, and of its DMatrix.

    Args:
        n_rounds: Number of rounds to predict with, from the first one on; 0 means all.
        missing: Number that is read as a missing value besides NaN.
    """
    arguments = {
        "type": 0,
        "training": False,
        "iteration_begin": 0,
        "iteration_end": n_rounds,
        "missing": missing,
        "strict_shape": True,
        "cache_id": 0,
        "nthread": 1,
    }
    # Without spaces: the library parses it for every prediction.
    return json.dumps(arguments, separators=(",", ":")).encode()


def _interface(array: np.ndarray[Any, Any]) -> bytes:
    """Describe an array in JSON by NumPy's array interface, the library's input."""
    return b'{"data":[%d,true],"shape":[%s],"typestr":"%s","version":3}' % (
        array.__array_interface__["data"][0],
        ",".join(map(str, array.shape)).encode(),
        array.dtype.str.encode(),
    )


def _csr(rows: SparseRows) -> tuple[bytes, bytes, bytes, int]:
    return (
        _interface(rows.offsets),
        _interface(rows.columns),
        _interface(rows.values),
        rows.n_columns,
    )
