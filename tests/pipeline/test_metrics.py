"""Metrics against their definitions, worked out here without the library that computes them there."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import metrics

LABELS = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 0.0])
SCORES = np.array([0.1, 0.7, 0.8, 0.3, 0.9, 0.2])


def value(found: metrics.Metrics, name: str) -> float:
    number = found[name]["value"]
    assert isinstance(number, float)
    return number


def test_confusion_matrix_counts_by_true_then_predicted_class() -> None:
    found = metrics.classification(LABELS, SCORES, threshold=0.5)
    assert found["confusion_matrix"] == {"0": {"0": 2, "1": 1}, "1": {"0": 1, "1": 2}}


def test_classification_metrics_follow_from_the_confusion_matrix() -> None:
    found = metrics.classification(LABELS, SCORES, threshold=0.5)
    tp, fp, tn, fn = 2, 1, 2, 1
    assert value(found, "accuracy") == pytest.approx((tp + tn) / 6)
    assert value(found, "precision") == pytest.approx(tp / (tp + fp))
    assert value(found, "recall") == value(found, "true_positive_rate") == pytest.approx(tp / (tp + fn))
    assert value(found, "f1") == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert value(found, "false_positive_rate") == pytest.approx(fp / (fp + tn))
    assert value(found, "true_negative_rate") == pytest.approx(tn / (fp + tn))
    assert value(found, "false_negative_rate") == pytest.approx(fn / (fn + tp))


@pytest.mark.parametrize("rare", [0.0, 1.0])
def test_the_best_constant_classifier_answers_the_more_frequent_class(rare: float) -> None:
    labels = np.array([rare, 1 - rare, 1 - rare, 1 - rare])
    found = metrics.classification_values(labels, SCORES[:4], threshold=0.5)
    assert found["accuracy_best_constant_classifier"] == pytest.approx(0.75)


def test_a_score_at_the_threshold_is_positive() -> None:
    found = metrics.classification(LABELS, SCORES, threshold=0.3)
    assert found["confusion_matrix"]["1"] == {"0": 0, "1": 3}


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2, max_size=40))
def test_auc_is_the_chance_that_a_positive_scores_above_a_negative(rows: list[tuple[bool, int]]) -> None:
    labels = np.array([float(label) for label, _ in rows])
    scores = np.array([score / 20 for _, score in rows])
    positive, negative = scores[labels == 1], scores[labels == 0]
    if not len(positive) or not len(negative):
        return
    above = (positive[:, None] > negative).mean() + (positive[:, None] == negative).mean() / 2
    assert metrics.classification_values(labels, scores, 0.5)["auc"] == pytest.approx(above)


def test_log_loss_is_the_mean_negative_log_likelihood() -> None:
    found = metrics.classification(LABELS, SCORES, threshold=0.5)
    likelihood = np.where(LABELS == 1, SCORES, 1 - SCORES)
    assert value(found, "log_loss") == pytest.approx(-np.log(likelihood).mean())


def test_a_certain_and_wrong_score_has_a_finite_loss() -> None:
    found = metrics.classification(np.array([0.0, 1.0]), np.array([1.0, 0.0]), threshold=0.5)
    assert np.isfinite(value(found, "log_loss"))


def test_a_model_that_never_says_yes_has_precision_zero_not_an_error() -> None:
    found = metrics.classification(LABELS, SCORES, threshold=2.0)
    assert value(found, "precision") == value(found, "recall") == value(found, "f1") == 0.0


@pytest.fixture(scope="module")
def many() -> tuple[np.ndarray, np.ndarray]:
    """20,000 rows whose scores are true probabilities."""
    random = np.random.default_rng(0)
    scores = random.beta(2, 5, size=20_000)
    return (random.random(20_000) < scores).astype(float), scores


def test_curves_are_bounded_and_keep_both_ends(many: tuple[np.ndarray, np.ndarray]) -> None:
    found = metrics.classification(*many, threshold=0.3)
    roc = found["receiver_operating_characteristic_curve"]
    fpr, tpr = roc["false_positive_rates"], roc["true_positive_rates"]
    assert len(fpr) == len(tpr) == metrics.CURVE_POINTS
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert fpr == sorted(fpr)
    assert tpr == sorted(tpr)
    recalls = found["precision_recall_curve"]["recalls"]
    assert len(recalls) <= metrics.CURVE_POINTS
    assert (recalls[0], recalls[-1]) == (1.0, 0.0)


def test_the_thinned_curve_still_has_the_auc(many: tuple[np.ndarray, np.ndarray]) -> None:
    found = metrics.classification(*many, threshold=0.3)
    roc = found["receiver_operating_characteristic_curve"]
    area = np.trapezoid(roc["true_positive_rates"], roc["false_positive_rates"])
    assert area == pytest.approx(value(found, "auc"), abs=1e-3)


def test_true_probabilities_are_calibrated(many: tuple[np.ndarray, np.ndarray]) -> None:
    curve = metrics.classification(*many, threshold=0.3)["calibration_curve"]
    assert len(curve["predicted"]) == metrics.CALIBRATION_BINS
    assert curve["observed"] == pytest.approx(curve["predicted"], abs=0.04)


def test_the_best_threshold_has_the_highest_f1(many: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = many
    chosen = metrics.best_threshold(labels, scores)

    def f1(threshold: float) -> float:
        called = scores >= threshold
        return float(2 * (called & (labels == 1)).sum() / (called.sum() + labels.sum()))

    assert all(f1(other) <= f1(chosen) for other in np.linspace(0.01, 0.99, 99))


def test_deviations_are_small_equal_on_repetition_and_absent_below_200_rows(
    many: tuple[np.ndarray, np.ndarray],
) -> None:
    found, again = (metrics.classification(*many, threshold=0.3) for _ in range(2))
    assert 0 < found["auc"]["standard_deviation"] < 0.01
    assert found == again
    assert metrics.classification(LABELS, SCORES, threshold=0.5)["auc"]["standard_deviation"] == "NaN"


def test_regression_metrics_follow_their_formulas() -> None:
    true, predicted = np.array([1.0, 2.0, 3.0, 4.0, 6.0]), np.array([1.0, 2.5, 2.0, 4.0, 7.0])
    found = metrics.regression(true, predicted, features=2)
    errors = true - predicted
    r2 = 1 - (errors**2).sum() / ((true - true.mean()) ** 2).sum()
    assert value(found, "mse") == pytest.approx((errors**2).mean())
    assert value(found, "rmse") == pytest.approx(np.sqrt((errors**2).mean()))
    assert value(found, "mae") == pytest.approx(np.abs(errors).mean())
    assert value(found, "r2") == pytest.approx(r2)
    assert value(found, "adjusted_r2") == pytest.approx(1 - (1 - r2) * (5 - 1) / (5 - 2 - 1))


def test_adjusted_r2_is_left_out_when_features_outnumber_rows() -> None:
    found = metrics.regression(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0]), features=2)
    assert "adjusted_r2" not in found


def test_rare_positives_leave_no_nan_in_the_json() -> None:
    labels = np.zeros(300)
    labels[0] = 1.0
    found = metrics.classification(labels, np.linspace(1, 0, 300), threshold=0.5)
    json.dumps(found, allow_nan=False)
