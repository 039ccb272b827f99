"""The metrics of both problem types, in the shape that the model registry reads.

The shape is that of "Model quality metrics and Amazon CloudWatch monitoring" (SageMaker AI Developer Guide): every
metric is `{"value": …, "standard_deviation": …}`. The deviation is computed as Model Monitor computes it, from five
random samples of 80 % of the rows, and is "NaN" below 200 rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import calibration as sklearn_calibration
from sklearn import metrics as sk

from pipeline.features import Array

# A registry entry and a plot need the curve's shape, not each of 50,000 points.
CURVE_POINTS = 200
CALIBRATION_BINS = 10
DEVIATION_ROWS = 200
DEVIATION_SAMPLES = 5
DEVIATION_SHARE = 0.8
SEED = 0

Metrics = dict[str, dict[str, Any]]


def best_threshold(labels: Array, scores: Array) -> float:
    """The score from which on calling a row positive gives the highest F1; choose it on the validation split.

    With 23 % positives the customary 0.5 would call almost nothing late.
    """
    precision, recall, thresholds = sk.precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return float(thresholds[np.argmax(f1[:-1])])


def classification_values(labels: Array, scores: Array, threshold: float) -> dict[str, float]:
    """The figures of `classification`, without deviations and curves.

    A row is called positive when its score is at least `threshold`.
    """
    decided = (scores >= threshold).astype(int)
    (tn, fp), (fn, tp) = sk.confusion_matrix(labels, decided, labels=[0, 1])
    return {
        "accuracy": sk.accuracy_score(labels, decided),
        "precision": sk.precision_score(labels, decided, zero_division=0),
        "recall": sk.recall_score(labels, decided, zero_division=0),
        "f1": sk.f1_score(labels, decided, zero_division=0),
        "auc": sk.roc_auc_score(labels, scores),
        "average_precision": sk.average_precision_score(labels, scores),
        # A certain and wrong score would cost an infinite loss.
        "log_loss": sk.log_loss(labels, np.clip(scores, 1e-7, 1 - 1e-7), labels=[0, 1]),
        "true_positive_rate": tp / max(tp + fn, 1),
        "true_negative_rate": tn / max(tn + fp, 1),
        "false_positive_rate": fp / max(tn + fp, 1),
        "false_negative_rate": fn / max(tp + fn, 1),
        # What always answering the more frequent class would reach: the figure to beat on unbalanced data.
        "accuracy_best_constant_classifier": max(labels.mean(), 1 - labels.mean()),
    }


def classification(labels: Array, scores: Array, threshold: float) -> Metrics:
    """Metrics and curves of `scores` (rows,), probabilities of class 1, against `labels` (rows,) of 0 and 1."""
    (tn, fp), (fn, tp) = sk.confusion_matrix(labels, scores >= threshold, labels=[0, 1]).tolist()
    false_rates, true_rates, _ = sk.roc_curve(labels, scores)
    precisions, recalls, _ = sk.precision_recall_curve(labels, scores)
    observed, predicted = sklearn_calibration.calibration_curve(
        labels, np.clip(scores, 0, 1), n_bins=CALIBRATION_BINS, strategy="quantile"
    )
    return {
        **_with_deviations(lambda rows: classification_values(labels[rows], scores[rows], threshold), labels),
        "confusion_matrix": {"0": {"0": tn, "1": fp}, "1": {"0": fn, "1": tp}},
        "receiver_operating_characteristic_curve": {
            "false_positive_rates": _thin(false_rates),
            "true_positive_rates": _thin(true_rates),
        },
        "precision_recall_curve": {"precisions": _thin(precisions), "recalls": _thin(recalls)},
        "calibration_curve": {"predicted": predicted.tolist(), "observed": observed.tolist()},
    }


def regression_values(labels: Array, predicted: Array, *, features: int) -> dict[str, float]:
    """The figures of `regression`, without deviations.

    adjusted R2 = 1 - (1 - R2)(n - 1)/(n - features - 1); left out when there are too few rows for it.
    """
    mse, r2, n = sk.mean_squared_error(labels, predicted), sk.r2_score(labels, predicted), len(labels)
    found = {"mse": mse, "rmse": np.sqrt(mse), "mae": sk.mean_absolute_error(labels, predicted), "r2": r2}
    if n > features + 1:
        found["adjusted_r2"] = 1 - (1 - r2) * (n - 1) / (n - features - 1)
    return found


def regression(labels: Array, predicted: Array, *, features: int) -> Metrics:
    """Metrics of `predicted` (rows,) against `labels` (rows,), in the label's unit."""
    return _with_deviations(
        lambda rows: regression_values(labels[rows], predicted[rows], features=features), labels
    )


def _with_deviations(values: Callable[[Array], dict[str, float]], labels: Array) -> Metrics:
    rows = len(labels)
    found = values(np.arange(rows))
    deviations: dict[str, float | str] = dict.fromkeys(found, "NaN")
    if rows >= DEVIATION_ROWS:
        random = np.random.default_rng(SEED)
        drawn = [
            random.choice(rows, int(rows * DEVIATION_SHARE), replace=False) for _ in range(DEVIATION_SAMPLES)
        ]
        # A sample without a positive has no AUC; it says nothing about the spread either.
        samples = [values(sample) for sample in drawn if np.ptp(labels[sample]) > 0]
        spread = {name: float(np.std([s.get(name, np.nan) for s in samples])) for name in found if samples}
        deviations |= {name: deviation for name, deviation in spread.items() if np.isfinite(deviation)}
    return {
        name: {"value": float(value), "standard_deviation": deviations[name]} for name, value in found.items()
    }


def _thin(points: Array) -> list[float]:
    """At most `CURVE_POINTS` of the points, evenly spread, both ends among them."""
    index = np.unique(np.linspace(0, len(points) - 1, CURVE_POINTS).astype(int))
    return [float(value) for value in points[index]]
