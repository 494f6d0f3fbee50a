"""Bindings of LightGBM's public C interface, for serving.

A server does not import the `lightgbm` package: that pulls in SciPy and, where installed, pandas,
pyarrow and scikit-learn, and its prediction spends most of its time in Python. The C interface is
documented and stable. The library predicts with one thread, and so never starts one of OpenMP's.

Source: LightGBM documentation, "C API", of 4.6; `c_api.cpp` for what may be called at once.
"""

import ctypes
import importlib.util
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

import numpy as np

from container.codecs.records import Floats, SparseRows
from container.host_paths import shorten

_PACKAGE = "lightgbm"
_FLOAT32, _INT64 = 0, 3  # C_API_DTYPE_*
_NORMAL = 0  # C_API_PREDICT_NORMAL
_ALL = -1  # rounds
_PARAMETERS = b"num_threads=1 verbosity=-1"
_MESSAGE_FUNCTION = ctypes.CFUNCTYPE(None, c_char_p)


class LightGBMLibraryError(Exception):
    """The library's own message."""


# Drops the library's messages: what it refuses it also returns as an error.
_silence = _MESSAGE_FUNCTION(lambda message: None)


@cache
def _library() -> ctypes.CDLL:
    """Load the library; raises `ModuleNotFoundError` if there is none."""
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(name=_PACKAGE)
    file = Path(package.submodule_search_locations[0]) / "lib" / "lib_lightgbm.so"
    library = ctypes.CDLL(str(file))
    library.LGBM_GetLastError.restype = c_char_p
    for name, *arguments in (
        ("LGBM_RegisterLogCallback", _MESSAGE_FUNCTION),
        ("LGBM_SetMaxThreads", c_int),
        ("LGBM_BoosterLoadModelFromString", c_char_p, POINTER(c_int), POINTER(c_void_p)),
        ("LGBM_BoosterFree", c_void_p),
        (
            "LGBM_BoosterPredictForMat",
            *(c_void_p, c_void_p, c_int, c_int32, c_int32, c_int, c_int, c_int, c_int),
            *(c_char_p, POINTER(c_int64), POINTER(c_double)),
        ),
        (
            "LGBM_BoosterPredictForCSR",
            *(c_void_p, c_void_p, c_int, c_void_p, c_void_p, c_int, c_int64, c_int64, c_int64),
            *(c_int, c_int, c_int, c_char_p, POINTER(c_int64), POINTER(c_double)),
        ),
        (
            "LGBM_BoosterPredictForMatSingleRowFastInit",
            *(c_void_p, c_int, c_int, c_int, c_int, c_int32, c_char_p, POINTER(c_void_p)),
        ),
        (
            "LGBM_BoosterPredictForMatSingleRowFast",
            *(c_void_p, c_void_p, POINTER(c_int64), POINTER(c_double)),
        ),
        ("LGBM_FastConfigFree", c_void_p),
    ):
        getattr(library, name).argtypes = arguments
    return library


class TextBooster:
    """A model in the library's memory. Predicting is safe from several threads at once."""

    def __init__(self, content: bytes, n_features: int, n_outputs: int) -> None:
        """Load a model.

        Args:
            content: A model in the text format that was validated, and whose header says the
                number of features and outputs.
        Raises:
            LightGBMLibraryError: the library cannot read the model.
        """
        self._library = _library()
        self._library.LGBM_RegisterLogCallback(_silence)  # of this thread
        self._library.LGBM_SetMaxThreads(1)
        self._n_features, self._n_outputs = n_features, n_outputs
        self._handle, self._single = c_void_p(), c_void_p()
        n_rounds = c_int()
        self._call("LGBM_BoosterLoadModelFromString", content, byref(n_rounds), byref(self._handle))
        self._call(
            *("LGBM_BoosterPredictForMatSingleRowFastInit", self._handle, _NORMAL, 0, _ALL),
            *(_FLOAT32, n_features, _PARAMETERS, byref(self._single)),
        )

    def __del__(self) -> None:
        if self._single.value:
            self._library.LGBM_FastConfigFree(self._single)
        if self._handle.value:
            self._library.LGBM_BoosterFree(self._handle)

    def predict(self, features: Floats | SparseRows) -> Floats:
        """Predict; an absent cell of sparse rows is 0, as in training.

        Args:
            features: Float32 `[n_rows, n_features]`, C-contiguous, or sparse rows.
        Returns:
            Float32 `[n_rows]`, or `[n_rows, n_outputs]`.
        """
        n_rows = features.shape[0]
        if n_rows == 1 and not isinstance(features, SparseRows):
            return self._predict_one(features)
        values = np.empty(n_rows * self._n_outputs)
        n_values = c_int64()
        output = byref(n_values), values.ctypes.data_as(POINTER(c_double))
        if n_rows and isinstance(features, SparseRows):
            self._call(
                *("LGBM_BoosterPredictForCSR", self._handle, features.offsets.ctypes.data, _INT64),
                *(features.columns.ctypes.data, features.values.ctypes.data, _FLOAT32),
                *(n_rows + 1, len(features.values), self._n_features, _NORMAL, 0, _ALL),
                *(_PARAMETERS, *output),
            )
        elif n_rows and not isinstance(features, SparseRows):
            self._call(
                *("LGBM_BoosterPredictForMat", self._handle, features.ctypes.data, _FLOAT32),
                *(n_rows, self._n_features, 1, _NORMAL, 0, _ALL, _PARAMETERS, *output),
            )
        return self._shaped(values.astype(np.float32))

    def _predict_one(self, features: Floats) -> Floats:
        """Predict one record by a prepared predictor, which takes calls one after the other."""
        values, n_values = (c_double * self._n_outputs)(), c_int64()
        self._call(
            *("LGBM_BoosterPredictForMatSingleRowFast", self._single),
            *(features.__array_interface__["data"][0], byref(n_values), values),
        )
        return self._shaped(np.array(values, dtype=np.float32))

    def _shaped(self, values: Floats) -> Floats:
        return values if self._n_outputs == 1 else values.reshape(-1, self._n_outputs)

    def _call(self, name: str, *arguments: object) -> None:
        if getattr(self._library, name)(*arguments) != 0:
            message = self._library.LGBM_GetLastError().decode(errors="replace")
            if "bad_alloc" in message:
                raise MemoryError("LightGBM could not allocate memory")
            raise LightGBMLibraryError(shorten(" ".join(message.split())))
