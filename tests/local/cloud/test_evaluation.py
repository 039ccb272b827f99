"""The alarm's judgement, after the tables of "Configuring how CloudWatch alarms treat missing data"."""

import pytest

from local.cloud.evaluation import UnsupportedError, calculate, judge

# Oldest to newest, as in the tables: X breaches, 0 does not, - is missing. Then: breaching, notBreaching, ignore, missing.
TABLE = [
    ("0-X-X", "OK", "OK", "OK", "OK"),  # three exist: nothing is filled
    ("----0", "OK", "OK", "KEEP", "OK"),
    ("-----", "ALARM", "OK", "KEEP", "INSUFFICIENT_DATA"),
    ("0XX-X", "ALARM", "ALARM", "ALARM", "ALARM"),
    ("--X--", "ALARM", "OK", "KEEP", "ALARM"),
]


@pytest.mark.parametrize(("points", "breaching", "not_breaching", "ignore", "missing"), TABLE)
def test_three_of_three_with_missing_data(
    points: str, breaching: str, not_breaching: str, ignore: str, missing: str
) -> None:
    values = [{"X": 2.0, "0": 0.0, "-": None}[point] for point in reversed(points)]

    def state(treatment: str) -> str:
        judged = judge(
            values, periods=3, needed=3, comparison="GreaterThanThreshold", threshold=1, missing=treatment
        )
        return judged or "KEEP"

    assert state("breaching") == breaching
    assert state("notBreaching") == not_breaching
    assert state("ignore") == ignore
    assert state("missing") == missing


def test_two_of_three_are_enough_if_two_are_needed() -> None:
    points = [2.0, 0.0, 2.0]
    for needed, state in ((2, "ALARM"), (3, "OK")):
        assert (
            judge(
                points,
                periods=3,
                needed=needed,
                comparison="GreaterThanThreshold",
                threshold=1,
                missing="missing",
            )
            == state
        )


@pytest.mark.parametrize("missing", ["breaching", "notBreaching", "ignore", "missing"])
def test_enough_that_breaches_goes_off_whatever_is_missing(missing: str) -> None:
    assert (
        judge(
            [None, 2.0, None, 2.0, None],
            periods=3,
            needed=2,
            comparison="GreaterThanThreshold",
            threshold=1,
            missing=missing,
        )
        == "ALARM"
    )


@pytest.mark.parametrize(
    ("values", "result"),
    [
        ({"errors": 1.0, "invocations": 50.0}, 2.0),
        ({"errors": None, "invocations": 50.0}, 0.0),
        ({"errors": None, "invocations": 0.0}, 0.0),
        ({"errors": 1.0, "invocations": None}, None),
    ],
)
def test_the_share_of_errors_is_calculated_as_our_alarms_write_it(
    values: dict[str, float | None], result: float | None
) -> None:
    expression = "IF(invocations > 0, 100 * FILL(errors, 0) / invocations, 0)"
    assert calculate(expression, values) == result


def test_what_is_not_implemented_is_named() -> None:
    with pytest.raises(UnsupportedError, match="ANOMALY_DETECTION_BAND"):
        calculate("ANOMALY_DETECTION_BAND(a, 2)", {"a": 1.0})
