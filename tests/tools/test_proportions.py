"""Intervals are those that their authors published; numbers of answers are those of the tables; both keep their promise."""

import numpy as np
import pytest
from scipy.stats import binomtest

from tools import proportions

# Newcombe (1998), Table II, method 10: the first rate less the second.
PUBLISHED = [
    ((56, 70), (48, 80), (0.0524, 0.3339)),
    ((9, 10), (3, 10), (0.1705, 0.8090)),
    ((6, 7), (2, 7), (0.0582, 0.8062)),
    ((5, 56), (0, 29), (-0.0381, 0.1926)),
    ((0, 10), (0, 20), (-0.1611, 0.2775)),
    ((0, 10), (0, 10), (-0.2775, 0.2775)),
    ((10, 10), (0, 20), (0.6791, 1.0)),
    ((10, 10), (0, 10), (0.6075, 1.0)),
]


@pytest.mark.parametrize(("one", "other", "interval"), PUBLISHED)
def test_the_interval_of_a_difference_is_newcombe_s(
    one: tuple[int, int], other: tuple[int, int], interval: tuple[float, float]
) -> None:
    found = proportions.difference(other, one, confidence=0.95)
    assert found == pytest.approx(interval, abs=5e-5)
    mirrored = proportions.difference(one, other, confidence=0.95)
    assert mirrored == pytest.approx((-interval[1], -interval[0]), abs=5e-5)


@pytest.mark.parametrize(
    ("cells", "interval"),
    [
        # Fagerland, Lydersen and Laake, "Recommended tests and confidence intervals for paired binomial proportions"
        # (Statistics in Medicine 33, 2014): airway hyper-responsiveness before and after.
        ((1, 7, 1, 12), (-0.507, -0.026)),
        # Altman and others, "Statistics with Confidence" (2000), Table 6.2.
        ((14, 0, 5, 22), (0.011, 0.226)),
    ],
)
def test_the_interval_of_pairs_is_newcombe_s(
    cells: tuple[int, int, int, int], interval: tuple[float, float]
) -> None:
    assert proportions.paired_difference(*cells, confidence=0.95) == pytest.approx(interval, abs=6e-4)


def test_wilson_s_interval_is_his() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), Table I, method 3.
    for (errors, count), interval in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert proportions.rate(errors, count, confidence=0.95) == pytest.approx(interval, abs=5e-5)
        oracle = binomtest(errors, count).proportion_ci(0.9, method="wilson")
        assert proportions.rate(errors, count, confidence=0.9) == pytest.approx((oracle.low, oracle.high))


def test_without_answers_everything_is_possible() -> None:
    assert proportions.rate(0, 0, confidence=0.95) == (0, 1)
    assert proportions.difference((1, 2), (0, 0), confidence=0.95) == (-1, 1)
    assert proportions.paired_difference(0, 0, 0, 0, confidence=0.95) == (-1, 1)


def test_the_number_of_answers_is_that_of_the_usual_table() -> None:
    # Fleiss, "Statistical Methods for Rates and Proportions", without continuity correction: 0.45 against 0.55.
    assert proportions.needed(0.5, effect=0.1, confidence=0.95, power=0.8) == 392
    # Connor (1987): half as many pairs differ, so far fewer are needed.
    assert proportions.needed_pairs(0.2, effect=0.1, confidence=0.95, power=0.8) < 200


@pytest.mark.parametrize("error_rate", [0.0, 0.001, 0.5, 0.999, 1.0])
def test_every_rate_has_a_number_of_answers(error_rate: float) -> None:
    assert proportions.needed(error_rate, effect=0.01, confidence=0.95, power=0.8) > 0
    assert proportions.needed_pairs(error_rate, effect=0.01, confidence=0.95, power=0.8) > 0


@pytest.mark.parametrize("counts", [(1_000, 1_000), (1_600, 400)])
def test_the_interval_holds_the_true_difference_as_often_as_promised(counts: tuple[int, int]) -> None:
    random = np.random.default_rng(7)
    drawn = zip(*(random.binomial(count, 0.23, 2_000) for count in counts), strict=True)
    held = sum(
        low <= 0 <= high
        for first, second in drawn
        for low, high in [
            proportions.difference((int(first), counts[0]), (int(second), counts[1]), confidence=0.95)
        ]
    )
    # Three standard deviations of 2,000 draws below 95 percent.
    assert held / 2_000 >= 0.935
