"""A trained model as a function: matrix in, predictions out. Read from JSON files, never from a pickle.

A pickle runs code when it is opened and breaks between library versions; XGBoost's own JSON format and a list of
coefficients do neither (docs/decisions/0050).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from scipy.special import expit

from pipeline.features import Array, Matrix
from pipeline.schema import ProblemType

# (rows, features) → (rows,): the probability of class 1, or the predicted value.
Predictor = Callable[[Matrix], Array]

XGBOOST_FILE = "model.json"
LINEAR_FILE = "linear.json"


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


def boosted(booster: xgboost.Booster) -> Predictor:
    """Gradient-boosted trees; a missing value (NaN) follows the branch that training chose for it."""

    def predict(matrix: Matrix) -> Array:
        return np.asarray(booster.inplace_predict(matrix, validate_features=False))

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
