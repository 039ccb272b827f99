"""The report says better, worse, no difference, or that it is too early; and is wrong as seldom as it promises."""

from collections.abc import Callable

import numpy as np
import pytest

from stacks.option_config import CHALLENGER, CHAMPION
from tools import proportions
from tools.comparison import Prediction, Settings, compare, text, verdict

AB = Settings("AB", minimum_effect=0.05, confidence=0.95, power=0.8)
SHADOW = Settings("SHADOW", minimum_effect=0.05, confidence=0.95, power=0.8)
TRUTH = {str(number): number % 2 for number in range(10_000)}


def answers(ids: range, wrong: Callable[[int], bool]) -> dict[str, Prediction]:
    """An answer to each request: certain to 0.8, and wrong where asked."""
    found = {}
    for number in ids:
        label = number % 2 ^ wrong(number)
        found[str(number)] = Prediction(0.8 if label else 0.2, label)
    return found


def every(step: int) -> Callable[[int], bool]:
    return lambda number: number % step == 0


@pytest.mark.parametrize(
    ("champion", "challenger", "said"),
    [(4, 10, "better"), (10, 4, "worse"), (4, 4, "no difference larger than 0.0")],
)
def test_with_enough_answers_there_is_a_verdict(champion: int, challenger: int, said: str) -> None:
    given = {
        CHAMPION: answers(range(5_000), every(champion)),
        CHALLENGER: answers(range(5_000, 10_000), every(challenger)),
    }
    report = compare(given, TRUTH, AB)
    assert report["needed"]["more"] == 0
    assert report["verdict"].startswith(said)
    low, high = report["interval"]
    assert low <= report["difference"] <= high


def test_before_it_has_as_many_answers_as_it_needs_it_is_too_early_whatever_they_say() -> None:
    given = {CHAMPION: answers(range(100), every(1)), CHALLENGER: answers(range(100, 200), lambda _: False)}
    report = compare(given, TRUTH, AB)
    assert report["interval"][1] < 0  # it looks better
    assert report["needed"]["more"] == 2 * report["needed"]["per_arm"] - 200
    assert report["verdict"] == f"too early: about {report['needed']['more']} more requests"


def test_a_small_share_for_the_challenger_needs_more_requests() -> None:
    even = {CHAMPION: answers(range(100), every(4)), CHALLENGER: answers(range(100, 200), every(4))}
    small = {CHAMPION: answers(range(160), every(4)), CHALLENGER: answers(range(160, 200), every(4))}
    assert compare(small, TRUTH, AB)["needed"]["more"] > compare(even, TRUTH, AB)["needed"]["more"]


def test_without_any_answer_it_is_too_early() -> None:
    for settings in (AB, SHADOW):
        report = compare({CHAMPION: {}, CHALLENGER: {}}, TRUTH, settings)
        assert report["verdict"].startswith("too early: about ")
        assert report["difference"] is None
        assert "too early" in text(report, title="none")


def test_errors_and_log_loss_are_counted_on_what_has_a_truth() -> None:
    given = {CHAMPION: answers(range(10), every(5)), CHALLENGER: answers(range(10), lambda _: False)}
    report = compare(given, {key: TRUTH[key] for key in "0123"}, AB)
    champion = report["arms"][CHAMPION]
    assert (champion["answers"], champion["with_truth"], champion["errors"]) == (10, 4, 1)
    assert champion["error_rate"] == 0.25
    assert champion["log_loss"] == pytest.approx(-(3 * np.log(0.8) + np.log(0.2)) / 4)
    assert report["arms"][CHALLENGER]["log_loss"] == pytest.approx(-np.log(0.8))


def test_a_shadow_is_compared_on_the_requests_that_both_answered() -> None:
    given = {CHAMPION: answers(range(4_000), every(4)), CHALLENGER: answers(range(2_000, 6_000), every(8))}
    report = compare(given, TRUTH, SHADOW)
    assert [arm["with_truth"] for arm in report["arms"].values()] == [2_000, 2_000]
    assert report["verdict"] == "better"
    # They differ where the champion alone is wrong: an eighth of the requests.
    assert report["difference"] == -0.125
    assert report["agreement"]["share"] == 0.875
    assert "Both decide alike: 87.50 %" in text(report, title="t")


def test_pairs_need_fewer_requests_than_two_samples() -> None:
    given = {CHAMPION: answers(range(1_000), every(4)), CHALLENGER: answers(range(1_000), every(4))}
    assert compare(given, TRUTH, SHADOW)["needed"]["per_arm"] < compare(given, TRUTH, AB)["needed"]["per_arm"]


def simulated(second_rate: float) -> list[str]:
    """Verdicts of 2,000 experiments with as many answers as are needed, around a champion's 20 percent of errors."""
    random = np.random.default_rng(11)
    count = proportions.needed(0.2 + (second_rate - 0.2) / 2, effect=0.05, confidence=0.95, power=0.8)
    found = []
    for first, second in random.binomial(count, [0.2, second_rate], (2_000, 2)):
        interval = proportions.difference((int(first), count), (int(second), count), confidence=0.95)
        found.append(verdict({"needed": {"more": 0}, "interval": interval}))
    return found


def test_of_equal_models_one_is_called_better_or_worse_no_more_often_than_promised() -> None:
    false = sum(said in {"better", "worse"} for said in simulated(0.2)) / 2_000
    # Five percent, and three standard deviations of 2,000 draws.
    assert false <= 0.05 + 3 * (0.05 * 0.95 / 2_000) ** 0.5


def test_a_difference_of_the_size_that_matters_is_seen_as_often_as_promised() -> None:
    seen = sum(said == "worse" for said in simulated(0.25)) / 2_000
    assert seen >= 0.8 - 3 * (0.8 * 0.2 / 2_000) ** 0.5


def test_a_person_reads_rates_in_percent_and_the_verdict() -> None:
    given = {CHAMPION: answers(range(5_000), every(4)), CHALLENGER: answers(range(5_000, 10_000), every(10))}
    report = compare(given, TRUTH, AB)
    report["arms"][CHAMPION]["service"] = {
        "invocations": 5_000,
        "server_errors": 3,
        "latency_milliseconds": {"average": 4.21, "maximum": 30.0},
    }
    shown = text(report, title="Experiment flights")
    assert shown.startswith("Experiment flights\n")
    assert "25.00 %" in shown
    assert "-15.00 %" in shown
    assert "5000 invocations, 3 failed; 4.2 ms on average, 30.0 at most" in shown
    assert shown.endswith("Challenger: better\n")
