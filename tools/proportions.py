"""Error rates compared: intervals for one rate and for the difference of two, and how many answers a comparison needs.

Intervals: Wilson's score interval of a rate; Newcombe's hybrid of two of them for a difference, of independent samples
("Interval estimation for the difference between independent proportions", method 10) and of paired ones ("Improved
confidence intervals for the difference between binomial proportions based on paired data", method 10), both in
Statistics in Medicine 17 (1998). Numbers of answers: the usual normal approximation, and Connor's for pairs ("Sample
size for testing differences in proportions for the paired-sample design", Biometrics 43, 1987).
"""

from __future__ import annotations

import math
from statistics import NormalDist

Interval = tuple[float, float]


def rate(errors: int, count: int, *, confidence: float) -> Interval:
    """Wilson's interval of `errors` of `count`; everything is possible while there is no answer."""
    if not count:
        return 0.0, 1.0
    # As scipy's `binomtest` has it, whose test nobody asks for here takes a hundred times as long.
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    share, weight = errors / count, quantile**2 / count
    middle = (share + weight / 2) / (1 + weight)
    half = quantile * math.sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def difference(first: tuple[int, int], second: tuple[int, int], *, confidence: float) -> Interval:
    """The interval of the second rate less the first, of independent samples, each as (errors, count)."""
    return _combined(first, second, correlation=0.0, confidence=confidence)


def paired_difference(both: int, first: int, second: int, neither: int, *, confidence: float) -> Interval:
    """The same of pairs: how often both erred, only the first, only the second, neither."""
    count = both + first + second + neither
    return _combined(
        (both + first, count),
        (both + second, count),
        correlation=_correlation(both, first, second, neither),
        confidence=confidence,
    )


def needed(error_rate: float, *, effect: float, confidence: float, power: float) -> int:
    """Answers of each of two arms of one size, to see a difference of `effect` between rates around `error_rate`."""
    low = min(max(error_rate - effect / 2, 0.0), 1 - effect)
    rates = low, low + effect
    middle = sum(rates) / 2
    surprise, miss = _quantiles(confidence, power)
    spread = surprise * math.sqrt(2 * middle * (1 - middle))
    spread += miss * math.sqrt(sum(one * (1 - one) for one in rates))
    return math.ceil((spread / effect) ** 2)


def needed_pairs(discordant: float, *, effect: float, confidence: float, power: float) -> int:
    """Pairs to see a difference of `effect`, if `discordant` is the share of pairs of which one alone errs."""
    share = max(discordant, effect)  # the difference cannot be larger than what differs
    surprise, miss = _quantiles(confidence, power)
    spread = surprise * math.sqrt(share) + miss * math.sqrt(share - effect**2)
    return math.ceil((spread / effect) ** 2)


def _combined(
    first: tuple[int, int], second: tuple[int, int], *, correlation: float, confidence: float
) -> Interval:
    if not first[1] or not second[1]:
        return -1.0, 1.0
    (rate_1, low_1, high_1), (rate_2, low_2, high_2) = (
        (errors / count, *rate(errors, count, confidence=confidence)) for errors, count in (first, second)
    )

    def distance(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))

    middle = rate_2 - rate_1
    return (
        max(-1.0, middle - distance(rate_2 - low_2, high_1 - rate_1)),
        min(1.0, middle + distance(high_2 - rate_2, rate_1 - low_1)),
    )


def _correlation(both: int, first: int, second: int, neither: int) -> float:
    """Newcombe's estimate: corrected for continuity where it is positive, and none if a rate is 0 or 1."""
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    if not product:
        return 0.0
    agreement = float(both * neither - first * second)
    if agreement > 0:
        agreement = max(0.0, agreement - (both + first + second + neither) / 2)
    return agreement / math.sqrt(product)


def _quantiles(confidence: float, power: float) -> tuple[float, float]:
    """The standard normal distribution's, two-sided for the confidence, one-sided for the power."""
    return NormalDist().inv_cdf((1 + confidence) / 2), NormalDist().inv_cdf(power)
