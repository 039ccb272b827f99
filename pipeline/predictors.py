"""A trained model as a function: matrix in, predictions out. Read from JSON files, never from a pickle.

A pickle runs code when it is opened and breaks between library versions; XGBoost's own JSON format and a list of
coefficients do neither (docs/decisions/0050).
"""

from __future__ import annotations

import ctypes
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from scipy.special import expit
from xgboost import core

from pipeline.features import Array, Matrix
from pipeline.schema import ProblemType

# (rows, features) → (rows,): the probability of class 1, or the predicted value.
Predictor = Callable[[Matrix], Array]

XGBOOST_FILE = "model.json"
LINEAR_FILE = "linear.json"

# What XGBoost's C API is asked for: probabilities or values, of all trees, as `Booster.inplace_predict` asks for them.
_ALL_TREES = json.dumps(
    {
        "type": 0,
        "training": False,
        "iteration_begin": 0,
        "iteration_end": 0,
        "missing": float("nan"),
        "strict_shape": False,
        "cache_id": 0,
    }
).encode()
# NumPy's array interface of a matrix that lies row by row: its address, rows and columns.
_INTERFACE = '{"data": [%d, true], "shape": [%d, %d], "typestr": "<f4", "version": 3}'


class ModelError(ValueError):
    """A model folder that cannot be loaded: the message names the folder and what it lacks."""


def load(folder: Path) -> Predictor:
    """The predictor in a model folder; `ModelError` if it holds neither kind of model."""
    if (folder / XGBOOST_FILE).exists():
        booster = xgboost.Booster(model_file=folder / XGBOOST_FILE)
        # The server runs one process a CPU: more threads in each would only wait for one another.
        booster.set_param({"nthread": 1, "device": "cpu"})
        return boosted(booster)
    if (folder / LINEAR_FILE).exists():
        return linear(json.loads((folder / LINEAR_FILE).read_text()))
    raise ModelError(f"{folder}: neither {XGBOOST_FILE} nor {LINEAR_FILE}. Train the model again.")


class _Proxy(threading.local):
    """How XGBoost is told where a matrix lies; it serves one call at a time, so each thread has its own.

    Kept from call to call: to make one, XGBoost reads from files how much processor its container may use.
    """

    def __init__(self) -> None:
        self.matrix = core._ProxyDMatrix()  # noqa: SLF001


def boosted(booster: xgboost.Booster) -> Predictor:
    """Gradient-boosted trees; a missing value (NaN) follows the branch that training chose for it.

    It makes the call that `Booster.inplace_predict` ends in ("XGBoosterPredictFromDense", XGBoost C API). To find out
    which of a dozen kinds of data it got takes that method longer than the trees take for one record.
    """
    proxy = _Proxy()

    def predict(matrix: Matrix) -> Array:
        matrix = np.ascontiguousarray(matrix, dtype=np.float32)
        interface = (_INTERFACE % (matrix.ctypes.data, *matrix.shape)).encode()
        shape, dimensions = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
        values = ctypes.POINTER(ctypes.c_float)()
        core._check_call(  # noqa: SLF001
            core._LIB.XGBoosterPredictFromDense(  # noqa: SLF001
                booster.handle,
                interface,
                _ALL_TREES,
                proxy.matrix.handle,
                ctypes.byref(shape),
                ctypes.byref(dimensions),
                ctypes.byref(values),
            )
        )
        # Copied: it is XGBoost's own memory, which this thread's next prediction overwrites.
        return np.array(values[: len(matrix)], dtype=np.float32)

    return predict


def linear(state: dict[str, Any]) -> Predictor:
    """A weighted sum, intercept + coefficients · x; through the logistic function for classification.

    `state`: problem_type, intercept, coefficients and means (features,); a missing value becomes the training mean.
    """
    coefficients = np.array(state["coefficients"])
    means = np.array(state["means"])
    problem_type: ProblemType = state["problem_type"]

    def predict(matrix: Matrix) -> Array:
        filled = np.where(np.isnan(matrix), means, matrix)
        score = filled @ coefficients + state["intercept"]
        return np.asarray(expit(score)) if problem_type == "classification" else score

    return predict
