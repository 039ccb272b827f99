"""The two estimators: gradient boosting (XGBoost) and a linear model trained by stochastic gradient descent.

Each minimises the loss of its problem type on the training split and stops when the validation split no longer
improves: log loss for classification, squared error (shown as its root) for regression. Both are deterministic:
fixed seeds, and no random split of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xgboost
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.metrics import log_loss, root_mean_squared_error

from pipeline import predictors
from pipeline.features import Array, Matrix
from pipeline.schema import ProblemType

SEED = 0
# The most standard deviations that a value may lie from the mean, once scaled for SGD.
FARTHEST = 10
# The epochs of SGD without improvement after which it stops.
PATIENCE = 3

Report = Callable[[str], None]


class Split(NamedTuple):
    """Encoded rows: `x` (rows, features), NaN where missing, and `y` (rows,)."""

    x: Matrix
    y: Array


def fit_xgboost(
    train: Split, validation: Split, problem_type: ProblemType, parameters: dict[str, Any]
) -> xgboost.Booster:
    r"""Boosted trees up to the best round on `validation`; later rounds are cut off.

    XGBoost prints a line a round: `[12]\ttrain-logloss:0.43\tvalidation-logloss:0.44`.
    """
    loss = {"classification": ("binary:logistic", "logloss"), "regression": ("reg:squarederror", "rmse")}
    objective, metric = loss[problem_type]
    rounds, patience = parameters["num_round"], parameters["early_stopping_rounds"]
    tree = {k: v for k, v in parameters.items() if k not in {"num_round", "early_stopping_rounds"}}
    first = xgboost.QuantileDMatrix(train.x, train.y)
    booster = xgboost.train(
        {**tree, "objective": objective, "eval_metric": metric, "tree_method": "hist", "seed": SEED},
        first,
        num_boost_round=rounds,
        evals=[
            (first, "train"),
            (xgboost.QuantileDMatrix(validation.x, validation.y, ref=first), "validation"),
        ],
        early_stopping_rounds=patience,
        verbose_eval=10,
    )
    return booster[: booster.best_iteration + 1]


def fit_linear(
    train: Split,
    validation: Split,
    problem_type: ProblemType,
    parameters: dict[str, Any],
    report: Report = print,
) -> dict[str, Any]:
    """A linear model by SGD, one pass over the training rows an epoch; the best epoch on `validation` is kept.

    SGD needs features of one scale, so they are standardised here and the scaling is folded into the coefficients:
    the returned state (see `predictors.linear`) takes the same matrix as XGBoost does.
    """
    means = np.nan_to_num(np.nanmean(train.x, axis=0, dtype=np.float64))
    filled = np.where(np.isnan(train.x), means, train.x)
    centre = filled.mean(axis=0)
    # A category in one row of a thousand lies 30 deviations out: unbounded, such a row would throw the descent off course.
    scale = np.maximum(filled.std(axis=0), np.abs(filled - centre).max(axis=0) / FARTHEST)
    scale[scale == 0] = 1.0
    x = (filled - centre) / scale
    classify = problem_type == "classification"
    # A regression target in its own unit would make the step size depend on the unit.
    shift, spread = (0.0, 1.0) if classify else (float(train.y.mean()), float(train.y.std()) or 1.0)
    # A small constant rate: on flights it reaches the optimum of scikit-learn's LogisticRegression, where the library's
    # default schedule, and averaging over partial_fit calls (which loses the intercept), stay far above its loss.
    settings = {
        "alpha": parameters["alpha"],
        "learning_rate": "constant",
        "eta0": parameters["eta0"],
        "random_state": SEED,
    }
    model = SGDClassifier(loss="log_loss", **settings) if classify else SGDRegressor(**settings)
    name = "logloss" if classify else "rmse"
    best: dict[str, Any] = {}
    best_loss = np.inf
    for epoch in range(parameters["epochs"]):
        if classify:
            model.partial_fit(x, train.y, classes=[0, 1])
        else:
            model.partial_fit(x, (train.y - shift) / spread)
        weights = model.coef_.ravel() / scale * spread
        intercept = float(model.intercept_[0]) * spread + shift - float(weights @ centre)
        state = {
            "problem_type": problem_type,
            "intercept": intercept,
            "coefficients": weights.tolist(),
            "means": means.tolist(),
            "epoch": epoch,
        }
        predict = predictors.linear(state)
        losses = [
            float((log_loss if classify else root_mean_squared_error)(part.y, predict(part.x)))
            for part in (train, validation)
        ]
        report(f"[{epoch}]\ttrain-{name}:{losses[0]:.5f}\tvalidation-{name}:{losses[1]:.5f}")
        if losses[1] < best_loss:
            best, best_loss = state, losses[1]
        elif epoch - best["epoch"] >= PATIENCE:
            break
    return best
