"""Retries and caching of steps, as a definition configures them."""

import dataclasses
import datetime as dt
from pathlib import Path

import pytest

from local.runner import DefinitionError, StepResult
from local.runner.definition import Step, parse
from local.runner.execution import execute
from local.runner.policies import cache_key, cache_seconds, fault_of_call, retry_policies
from tests.local.runner.conftest import Cloud
from tests.local.runner.written import Json, pipeline, processing, training

LOST = {"ExceptionType": ["SageMaker.JOB_INTERNAL_ERROR"], "IntervalSeconds": 60, "BackoffRate": 2.0}


def lost_until(attempt: int, flag: Path) -> str:
    """A script whose process is killed from outside until it has started so often."""
    return f"echo x >> {flag}; test $(wc -l < {flag}) -ge {attempt} || kill -9 $$"


def test_a_killed_job_is_tried_again_as_its_policy_says(cloud: Cloud, tmp_path: Path) -> None:
    waits: list[float] = []
    setting = dataclasses.replace(cloud.setting, pause=waits.append)
    step = processing("A", lost_until(3, tmp_path / "starts"), RetryPolicies=[{**LOST, "MaxAttempts": 2}])
    result = cloud.run(pipeline(step), setting=setting)
    assert (result.status, result.steps["A"].attempts) == ("Succeeded", 3)
    assert waits == [60, 120]


def test_a_killed_job_fails_its_step_when_no_attempt_is_left(cloud: Cloud, tmp_path: Path) -> None:
    setting = dataclasses.replace(cloud.setting, pause=lambda _: None)
    policies = [{**LOST, "MaxAttempts": 1}]
    step = processing("A", lost_until(9, tmp_path / "starts"), outputs=("kept",), RetryPolicies=policies)
    result = cloud.run(pipeline(step), setting=setting)
    assert (result.status, result.steps["A"].attempts) == ("Failed", 2)
    assert result.steps["A"].failure_reason == "InternalServerError: the job's process was killed."
    assert cloud.keys() == []


def test_a_fault_of_our_own_is_not_tried_again(cloud: Cloud) -> None:
    result = cloud.run(pipeline(processing("A", "exit 3", RetryPolicies=[{**LOST, "MaxAttempts": 5}])))
    assert (result.status, result.steps["A"].attempts) == ("Failed", 1)


@pytest.mark.parametrize(
    ("code", "status", "fault"),
    [
        ("ThrottlingException", 400, "Step.THROTTLING"),
        ("ResourceLimitExceeded", 400, "SageMaker.RESOURCE_LIMIT"),
        ("InternalFailure", 500, "Step.SERVICE_FAULT"),
        ("ValidationException", 400, None),
    ],
)
def test_a_refused_call_is_the_fault_that_retry_policies_name(
    code: str, status: int, fault: str | None
) -> None:
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    assert fault_of_call(response) == fault


def test_a_policy_expires() -> None:
    [policy] = retry_policies([{**LOST, "ExpireAfterMin": 5}], "step A")
    present = dt.datetime.now(dt.UTC)
    assert policy.wait(0, present) == 60
    assert policy.wait(0, present - dt.timedelta(minutes=6)) is None


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        *[
            (
                [{"ExceptionType": names}],
                "step A: RetryPolicies: ExceptionType = .*: must be of SageMaker.CAP",
            )
            for names in (["Step.NOPE"], [], None, [None], [{"a": 1}], {"a": 1}, "Step.THROTTLING")
        ],
        *[
            ([{**LOST, name: value}], f"step A: RetryPolicies: {name} = .*: must be a number of at least 0")
            for name in ("IntervalSeconds", "BackoffRate", "MaxAttempts", "ExpireAfterMin")
            for value in (None, "5", True, -1)
        ],
        ([{"ExceptionType": ["Step.THROTTLING"], "Often": 1}], "takes BackoffRate, ExceptionType"),
        ({}, "must be a list"),
    ],
)
def test_an_unknown_retry_policy_is_refused(policies: object, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        parse(pipeline(processing("A", "true", RetryPolicies=policies)))


@pytest.mark.parametrize(
    ("text", "seconds"), [("P30D", 2_592_000), ("PT1H30M", 5400), ("30d", 2_592_000), ("T30m", 1800)]
)
def test_durations_are_read_as_aws_writes_them(text: str, seconds: int) -> None:
    assert cache_seconds({"Enabled": True, "ExpireAfter": text}, "step A") == seconds


@pytest.mark.parametrize("text", ["", "P", "PT", "soon", None])
def test_a_cache_without_a_duration_is_refused(text: str | None) -> None:
    with pytest.raises(DefinitionError, match="step A: CacheConfig: ExpireAfter"):
        cache_seconds({"Enabled": True, "ExpireAfter": text}, "step A")


def test_what_a_step_reads_and_does_is_compared_and_not_where_it_writes() -> None:
    first = processing("A", "true", inputs={"raw": "s3://bucket/a"}, outputs=("x",))["Arguments"]
    elsewhere = processing("A", "true", inputs={"raw": "s3://bucket/a"}, outputs=("y",))["Arguments"]
    other = processing("A", "true", inputs={"raw": "s3://bucket/b"}, outputs=("x",))["Arguments"]
    key = cache_key("Processing", first)
    assert cache_key("Processing", elsewhere) == key != cache_key("Processing", other)


def test_a_cached_step_does_not_run_and_its_successors_read_the_earlier_outputs(cloud: Cloud) -> None:
    raw: Json = pipeline(
        training("T", "exit 1", CacheConfig={"Enabled": True, "ExpireAfter": "P30D"}),
        processing(
            "Last",
            "test -s /opt/ml/processing/input/model/model.tar.gz",
            inputs={"model": {"Get": "Steps.T.ModelArtifacts.S3ModelArtifacts"}},
        ),
    )
    there = cloud.put("earlier/model.tar.gz", b"x")
    present = dt.datetime.now(dt.UTC)
    earlier = StepResult(
        "T",
        "Training",
        "Succeeded",
        present,
        present,
        {"ModelArtifacts": {"S3ModelArtifacts": there}},
        cached_from="arn:earlier",
    )
    asked: list[str] = []

    def recall(step: Step, key: str) -> StepResult:
        asked.append(key)
        return earlier

    result = execute(
        parse(raw), cloud.setting, {}, names=("p", "abcdefghijkl"), on_event=lambda _: None, recall=recall
    )
    assert result.status == "Succeeded", {s.name: s.failure_reason for s in result.steps.values()}
    assert result.steps["T"].cached_from == "arn:earlier"
    assert asked == [cache_key("Training", raw["Steps"][0]["Arguments"])]


def test_a_retried_execution_runs_only_what_has_not_succeeded(cloud: Cloud) -> None:
    raw = pipeline(processing("A", "exit 1"), processing("B", "true", DependsOn=["A"]))
    present = dt.datetime.now(dt.UTC)
    done = {"A": StepResult("A", "Processing", "Succeeded", present, present)}
    result = execute(
        parse(raw), cloud.setting, {}, names=("p", "abcdefghijkl"), on_event=lambda _: None, results=done
    )
    assert (result.status, list(result.steps)) == ("Succeeded", ["A", "B"])
