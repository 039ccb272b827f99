"""The figures of a timeline, and its bounds: one that is broken is named."""

import dataclasses
import json
from pathlib import Path

import pytest

from local.rollout import report
from local.rollout.timeline import NO_ANSWER, Timeline, requests
from tests.local.rollout.written import SETTING, but, failing_at, timeline


def reported(made: Timeline, rollback: str = "told"):
    return report.report(made, SETTING, rate=10, rollback=rollback)


def broken(made: Timeline, rollback: str = "told") -> list[str]:
    return report.broken(reported(made, rollback))


GOOD, FAILING = timeline(good=True), timeline(good=False, error="ModelError")
SLOW = timeline(good=False, seconds=1.5)


@pytest.mark.parametrize("made", [GOOD, FAILING, SLOW], ids=["good", "failing", "slow"])
def test_a_rollout_that_went_as_it_should_breaks_no_bound(made: Timeline) -> None:
    assert broken(made) == []


def test_a_failed_request_during_a_good_rollout_breaks_a_bound() -> None:
    assert broken(failing_at(GOOD, 9.0)) == ["good: failed requests: 1, more than 0"]


def test_a_failed_request_outside_every_deployment_breaks_a_bound() -> None:
    assert broken(failing_at(GOOD, -0.5)) == [
        "failed requests before, between and after the deployments: 1, more than 0"
    ]


def test_a_request_without_an_answer_breaks_a_bound() -> None:
    found = broken(failing_at(FAILING, 5.0, error=NO_ANSWER))
    assert found == ["requests sent, and answered: 129, not 130"]


def test_a_request_that_the_load_never_wrote_down_breaks_a_bound() -> None:
    made = dataclasses.replace(GOOD, scheduled=GOOD.scheduled + 1)
    assert broken(made) == ["requests sent, and answered: 130, not 131"]


@pytest.mark.parametrize("kind", [{"error": "ModelError"}, {"seconds": 1.5}], ids=["failing", "slow"])
def test_a_canary_that_takes_more_than_its_share_breaks_a_bound(kind: dict) -> None:
    (found,) = broken(timeline(good=False, every=1, **kind))
    # 50 requests between the looks around the canary: 25, and three deviations of 3.5.
    assert found.startswith("failing: bad answers until the rollback (the canary's share, 50% of 50")
    assert found.endswith(": 40, more than 35")


@pytest.mark.parametrize("moment", [2.0, 10.0])
def test_a_bad_answer_before_the_canary_or_after_the_rollback_breaks_a_bound(moment: float) -> None:
    assert broken(failing_at(FAILING, moment)) == ["failing: bad answers at any other time: 1, more than 0"]


def test_a_late_answer_of_the_version_before_is_the_machines() -> None:
    late = [
        dataclasses.replace(it, done=it.due + 2) if it.due == 2.0 and it.answer == "old" else it
        for it in SLOW.requests
    ]
    made = dataclasses.replace(SLOW, requests=late)
    assert broken(made) == []
    assert reported(made)["deployments"][0]["bad_answers"] == 20


def test_a_late_answer_of_the_new_version_after_the_rollback_breaks_a_bound() -> None:
    late = [
        dataclasses.replace(it, done=it.due + 2, answer="new") if it.due == 10.0 else it
        for it in SLOW.requests
    ]
    assert broken(dataclasses.replace(SLOW, requests=late)) == [
        "failing: who answers at its end: both, not the version before",
        "failing: bad answers at any other time: 1, more than 0",
    ]


def test_another_ending_than_the_expected_one_breaks_a_bound() -> None:
    assert broken(but(GOOD, result="rolled back")) == ["good: how it ended: rolled back, not in service"]


@pytest.mark.parametrize(
    ("made", "rings", "told"),
    [
        (FAILING, "Latency", "failing: alarms that rang: Latency, not Errors"),
        (FAILING, None, "failing: alarms that rang: none, not Errors"),
        (GOOD, "Quality", "good: alarms that rang: Quality, not none"),
    ],
)
def test_another_alarm_than_the_expected_one_breaks_a_bound(
    made: Timeline, rings: str | None, told: str
) -> None:
    quiet = [dataclasses.replace(it, alarms=dict.fromkeys(it.alarms, "OK")) for it in made.states]
    states = [
        dataclasses.replace(it, alarms=it.alarms | {rings: "ALARM"}) if rings and it.at == 7.5 else it
        for it in quiet
    ]
    assert broken(dataclasses.replace(made, states=states)) == [told]


@pytest.mark.parametrize(
    ("moment", "told"), [(7.5, ["failing: alarms that rang: Errors, Latency, not Errors"]), (8.5, [])]
)
def test_an_alarm_beside_the_expected_one_breaks_a_bound_until_the_traffic_is_back(
    moment: float, told: list[str]
) -> None:
    states = [
        dataclasses.replace(it, alarms=it.alarms | {"Latency": "ALARM"}) if it.at == moment else it
        for it in FAILING.states
    ]
    assert broken(dataclasses.replace(FAILING, states=states)) == told


@pytest.mark.parametrize(
    ("made", "after", "told"),
    [
        (GOOD, 1, "good: the version in service at its end: 1, not 2"),
        (FAILING, 2, "failing: the version in service at its end: 2, not 1"),
    ],
)
def test_another_version_in_service_at_the_end_breaks_a_bound(made: Timeline, after: int, told: str) -> None:
    assert broken(but(made, after=after)) == [told]


@pytest.mark.parametrize(
    ("made", "answer", "told"),
    [
        (GOOD, "old", "good: who answers at its end: the version before, not the new version"),
        (FAILING, "new", "failing: who answers at its end: the new version, not the version before"),
    ],
)
def test_answers_of_another_version_at_the_end_break_a_bound(made: Timeline, answer: str, told: str) -> None:
    requests = [dataclasses.replace(it, answer=answer) if it.due >= 9 else it for it in made.requests]
    assert broken(dataclasses.replace(made, requests=requests)) == [told]


def test_a_version_that_still_answers_now_and_then_at_the_end_breaks_a_bound() -> None:
    requests = [dataclasses.replace(it, answer="new") if it.due == 11 else it for it in FAILING.requests]
    found = broken(dataclasses.replace(FAILING, requests=requests))
    assert found == ["failing: who answers at its end: both, not the version before"]


def test_a_bad_version_whose_answers_nobody_can_tell_breaks_a_bound() -> None:
    requests = [dataclasses.replace(it, answer="old") for it in SLOW.requests]
    made = dataclasses.replace(SLOW, requests=requests)
    assert broken(made) == ["failing: a bad answer was seen: False, not True"]


def test_a_rollback_that_nobody_saw_breaks_a_bound() -> None:
    states = [dataclasses.replace(it, active=None, config="before") for it in FAILING.states]
    found = broken(dataclasses.replace(FAILING, states=states))
    assert "failing: the rollback was seen: False, not True" in found


@pytest.mark.parametrize(("rollback", "wanted"), [("told", 0), ("silent", 1)])
def test_the_check_repairs_a_silent_rollback_once_and_nothing_else(rollback: str, wanted: int) -> None:
    what = "repairs by the check after the rollout"
    assert broken(but(FAILING, repairs=wanted), rollback) == []
    other = 1 - wanted
    assert broken(but(FAILING, repairs=other), rollback) == [f"failing: {what}: {other}, not {wanted}"]
    assert broken(but(GOOD, repairs=1), rollback) == [f"good: {what}: 1, not 0"]


def test_a_repair_is_no_stage_of_the_version_that_was_rolled_back() -> None:
    """After a silent rollback the check deploys the version before anew, by canary, too."""
    states = [
        dataclasses.replace(it, active=1.0, status="Updating") if it.at >= 10 else it for it in FAILING.states
    ]
    made = but(dataclasses.replace(FAILING, states=states), repairs=1)
    (one,) = report.played(made, SETTING)
    assert (one.full_at, one.repair_at) == (None, 10.0)
    assert report.ending(one)[1].endswith("; the check repaired the stack")
    assert broken(made, "silent") == []


def test_times_are_seconds_of_aws() -> None:
    (found,) = reported(FAILING)["deployments"]
    assert found["aws_seconds"] == {
        "approval_to_canary": 240.0,
        "canary_to_full": None,
        "first_bad_answer_to_alarm": 174.0,
        "first_bad_answer_to_traffic_back": 234.0,
        "first_bad_answer_to_full_rollback": 294.0,
        "approval_to_end": 720.0,
    }
    (found,) = reported(GOOD)["deployments"]
    assert found["aws_seconds"]["canary_to_full"] == 240.0
    assert found["aws_seconds"]["first_bad_answer_to_full_rollback"] is None


def test_requests_are_counted_by_what_became_of_them() -> None:
    (found,) = reported(FAILING)["deployments"]
    assert (found["sent"], found["answered"], found["failed"]) == (120, 120, 20)
    assert found["failed_by_kind"] == {"ModelError": 20}
    assert found["milliseconds"] == {"old_version": {"p50": 10.0, "p99": 10.0}, "new_version": None}
    (found,) = reported(SLOW)["deployments"]
    assert (found["failed"], found["bad_answers"]) == (0, 20)
    assert found["milliseconds"]["new_version"] == {"p50": 1500.0, "p99": 1500.0}


def test_titles_say_the_ending() -> None:
    (good,), (bad,) = (report.played(made, SETTING) for made in (GOOD, FAILING))
    assert report.ending(good) == ("in service", "by canary, 0 of 120 requests failed")
    assert report.ending(bad) == (
        "rolled back",
        "by the Errors alarm, 4.9\N{NO-BREAK SPACE}min after its first bad answer",
    )


def test_the_summary_counts_the_bad_answers_of_a_version_that_was_taken_back() -> None:
    late = timeline(good=True, seconds=1.5)
    good, bad = (
        report.summary(reported(made), [report.ending(one) for one in report.played(made, SETTING)])
        for made in (late, FAILING)
    )
    assert good.splitlines()[-1].strip() == "good     in service by canary, 0 of 120 requests failed"
    assert bad.endswith("after its first bad answer; bad answers: 20 of 120")


def test_what_the_load_wrote_is_read_in_its_order() -> None:
    rows = [json.dumps(dataclasses.asdict(it)) for it in GOOD.requests]
    found, scheduled = requests([*reversed(rows), '{"scheduled": 130}'])
    assert (found, scheduled) == (list(GOOD.requests), 130)


def test_the_timeline_is_written_in_order_of_time(tmp_path: Path) -> None:
    GOOD.write(tmp_path / "timeline.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "timeline.jsonl").read_text().splitlines()]
    assert {row["kind"] for row in rows} == {"request", "state", "deployment", "scheduled"}
    moments = [row.get("due", row.get("at", row.get("approved"))) for row in rows[:-1]]
    assert moments == sorted(moments)
