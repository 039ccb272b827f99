"""A wrong configuration is one line that names file, key, value and remedy; a right one is frozen and complete."""

import copy
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stacks import config
from tests.support.synth import offline_environment
from tools.assembly import context, run_app

KeyPath = tuple[str, ...]
DELETE = object()


def edited(stage: str, path: str | KeyPath, value: object) -> dict[str, Any]:
    """The context of `cdk.json` with one value of a stage replaced, or removed (`DELETE`)."""
    changed = copy.deepcopy({key: context(stage)[key] for key in ("stage", "stages")})
    *parents, last = path.split(".") if isinstance(path, str) else path
    node = changed["stages"][stage]
    for key in parents:
        node = node[key]
    if value is DELETE:
        del node[last]
    else:
        node[last] = value
    return changed


def refusal(changed: dict[str, Any]) -> str:
    with pytest.raises(config.ConfigError) as caught:
        config.load(changed)
    return str(caught.value)


def complaint(changed: dict[str, Any]) -> str:
    try:
        config.load(changed)
    except config.ConfigError as error:
        return str(error)
    return ""


def leaves(node: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, node


def sections(node: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    if isinstance(node, dict):
        yield path
        for key, value in node.items():
            yield from sections(value, (*path, key))


SANDBOX = context("sandbox")["stages"]["sandbox"]
LEAVES = list(leaves(SANDBOX))
LISTS = {path for path, value in LEAVES if isinstance(value, list)}
OPEN = {("tags",), ("training", "hyperparameters")}  # objects whose keys are the user's own
SECTIONS = [path for path in sections(SANDBOX) if path not in OPEN]
NAMED = [path for path, _ in LEAVES if path[:1] not in OPEN and path[:2] not in OPEN]


@pytest.mark.parametrize("stage", config.STAGES)
def test_every_stage_of_cdk_json_is_accepted(stage: str) -> None:
    loaded = config.load(context(stage))
    assert loaded.stage == stage
    assert loaded.prefix == f"flights-{stage}"


def test_both_stages_spell_the_same_knobs() -> None:
    stages = context("sandbox")["stages"]

    def keys(stage: str) -> set[KeyPath]:
        return {path for path, _ in leaves(stages[stage]) if path[:2] != ("serving", "rollout")}

    assert keys("sandbox") == keys("production")


def test_constructs_cannot_change_the_configuration() -> None:
    loaded = config.load(context("sandbox"))
    with pytest.raises(ValueError, match="frozen"):
        loaded.serving.instance_count = 9


@pytest.mark.parametrize("path", [path for path, _ in LEAVES], ids=".".join)
def test_a_value_of_the_wrong_type_is_one_line_that_names_it(path: KeyPath) -> None:
    message = refusal(edited("sandbox", path, 7 if path in LISTS else [7]))
    assert message.startswith(f"cdk.json: context.stages.sandbox.{'.'.join(path)}")
    assert "\n" not in message
    assert message.endswith(".")
    assert re.search(r" = \[?7\]?: ", message)


NUMBERS = [path for path, value in LEAVES if type(value) in {int, float} and path[:2] not in OPEN]


@pytest.mark.parametrize("path", NUMBERS, ids=".".join)
def test_a_number_in_quotes_is_refused(path: KeyPath) -> None:
    assert ' = "3"' in refusal(edited("sandbox", path, "3"))


@pytest.mark.parametrize("path", NAMED, ids=".".join)
def test_a_missing_key_is_named(path: KeyPath) -> None:
    message = refusal(edited("sandbox", path, DELETE))
    assert message.startswith(f"cdk.json: context.stages.sandbox.{'.'.join(path)}: missing")


@pytest.mark.parametrize("path", SECTIONS, ids=lambda path: ".".join(path) or "top")
def test_an_unknown_key_is_named_in_every_section(path: KeyPath) -> None:
    message = refusal(edited("sandbox", (*path, "shard_cuont"), 1))
    key = ".".join(("context.stages.sandbox", *path, "shard_cuont"))
    assert message.startswith(f"cdk.json: {key} = 1: unknown key.")


@pytest.mark.parametrize("path", [path for path in sections(SANDBOX) if path], ids=".".join)
def test_a_section_must_be_an_object(path: KeyPath) -> None:
    message = refusal(edited("sandbox", path, 3))
    assert message == (
        f"cdk.json: context.stages.sandbox.{'.'.join(path)} = 3: must be an object. "
        f"See {defined_in(path)} for its keys."
    )


# Where the classes of the sections stand; those of the rest of a stage stand in stacks/config.py.
DEFINED_IN = {
    ("training",): "stacks/training_config.py",
    ("serving",): "stacks/serving_config.py",
    ("serving", "rollout"): "stacks/rollout_config.py",
    ("serverless",): "stacks/option_config.py",
    ("asynchronous",): "stacks/option_config.py",
    ("asynchronous", "rollout"): "stacks/rollout_config.py",
    ("batch",): "stacks/option_config.py",
    ("experiment",): "stacks/option_config.py",
}


def defined_in(path: KeyPath) -> str:
    """The file with the class that has this key, or that a section of this name must fit."""
    lengths = range(len(path), 0, -1)
    return next(
        (DEFINED_IN[path[:length]] for length in lengths if path[:length] in DEFINED_IN), "stacks/config.py"
    )


@pytest.mark.parametrize(
    "path", [path for path in NAMED if path[-1] not in {"strategy", "kind"}], ids=".".join
)
def test_a_missing_key_is_looked_up_in_the_file_that_defines_it(path: KeyPath) -> None:
    assert refusal(edited("sandbox", path, DELETE)).endswith(f"; see {defined_in(path)}.")


@pytest.mark.parametrize("path", SECTIONS, ids=lambda path: ".".join(path) or "top")
def test_an_unknown_key_is_looked_up_in_the_file_that_defines_the_others(path: KeyPath) -> None:
    message = refusal(edited("sandbox", (*path, "shard_cuont"), 1))
    assert message.endswith(f"or see {defined_in(path)} for the names.")


def test_a_key_of_a_scheduled_action_is_looked_up_where_the_action_is_defined() -> None:
    changed = {**action("night", 2, 4), "minimun": 2}
    message = refusal(edited("sandbox", "serving.autoscaling.scheduled", [changed]))
    assert message == (
        "cdk.json: context.stages.sandbox.serving.autoscaling.scheduled.0.minimun = 2: unknown key. Remove it, or see "
        "stacks/serving_config.py for the names."
    )


@pytest.mark.parametrize(
    ("path", "choices"),
    [
        ("serving.rollout.strategy", "CANARY, LINEAR, ALL_AT_ONCE, ROLLING"),
        ("experiment.kind", "AB, SHADOW"),
    ],
)
def test_a_missing_choice_of_a_section_is_missing_and_not_null(path: str, choices: str) -> None:
    assert refusal(edited("sandbox", path, DELETE)) == (
        f"cdk.json: context.stages.sandbox.{path}: missing. It must be one of {choices}."
    )


# Every number and its limits: those of AWS's API, or of ours where AWS would accept what cannot work.
LIMITS: dict[str, tuple[float | None, float | None]] = {
    "foundation.availability_zones": (2, 3),
    "foundation.raw_retention_days": (1, 3650),
    "foundation.noncurrent_version_days": (1, 365),
    "foundation.access_log_days": (1, 3650),
    "foundation.working_data_days": (30, 3650),
    "foundation.key_pending_window_days": (7, 30),
    "ingestion.shard_count": (1, 100),
    "ingestion.stream_retention_hours": (24, 8760),
    "ingestion.firehose_buffer_seconds": (60, 900),
    "ingestion.firehose_buffer_mib": (1, 128),
    "ingestion.consumer_batch_size": (1, 10_000),
    "ingestion.consumer_batching_window_seconds": (0, 300),
    "ingestion.consumer_retry_attempts": (0, 100),
    "ingestion.consumer_max_record_age_seconds": (60, 604_800),
    "ingestion.consumer_parallelization_factor": (1, 10),
    "ingestion.consumer_timeout_seconds": (3, 900),
    "ingestion.consumer_memory_mib": (128, 10_240),
    "processing.number_of_workers": (2, 100),
    "processing.job_timeout_minutes": (5, 2880),
    "processing.job_max_retries": (0, 3),
    "processing.upload_batch_size": (1, 100),
    "processing.upload_batch_window_seconds": (1, 900),
    "processing.maximum_quarantined_percent": (0, 100),
    "training.volume_size_gib": (1, 1024),
    "training.max_runtime_seconds": (60, 432_000),
    "training.minimum_auc": (0.5, 0.999),
    "training.maximum_rmse": (0.001, None),
    "serving.instance_count": (1, 50),
    "serving.data_capture_percent": (1, 100),
    "serving.rollout.canary.value": (1, 50),
    "serving.rollout.bake_seconds": (0, 3600),
    "serving.rollout.termination_wait_seconds": (0, 3600),
    "serving.rollout.timeout_seconds": (600, 28_800),
    "serving.alarms.error_percent": (0.001, 100),
    "serving.alarms.latency_milliseconds": (1, 59_999),
    "serving.alarms.evaluation_periods": (1, 10),
    "serving.alarms.quality.minimum_mean_score": (None, None),
    "serving.alarms.quality.maximum_mean_score": (None, None),
    "serving.alarms.quality.minimum_predictions": (1, None),
    "serving.autoscaling.maximum_instances": (1, 100),
    "serving.autoscaling.invocations_per_instance": (1, None),
    "serving.autoscaling.scale_in_cooldown_seconds": (0, 3600),
    "serving.autoscaling.scale_out_cooldown_seconds": (0, 3600),
    "serverless.maximum_concurrency": (1, 200),
    "serverless.provisioned_concurrency": (0, 200),
    "asynchronous.minimum_instances": (0, 100),
    "asynchronous.maximum_instances": (1, 100),
    "asynchronous.concurrent_invocations_per_instance": (1, 1000),
    "asynchronous.backlog_per_instance": (1, None),
    "asynchronous.scale_in_cooldown_seconds": (0, 3600),
    "asynchronous.scale_out_cooldown_seconds": (0, 3600),
    "asynchronous.rollout.termination_wait_seconds": (0, 3600),
    "asynchronous.rollout.timeout_seconds": (600, 28_800),
    "asynchronous.alarms.failed_invocations": (0, 1_000),
    "asynchronous.alarms.evaluation_periods": (1, 10),
    "batch.instance_count": (1, 20),
    "batch.max_payload_mb": (1, 100),
    "batch.max_concurrent_transforms": (1, 100),
    "experiment.instance_count": (1, 50),
    "experiment.data_capture_percent": (1, 100),
    "experiment.challenger_percent": (1, 50),
    "experiment.confidence": (0.501, 0.999),
    "experiment.power": (0.5, 0.999),
    "experiment.minimum_effect": (0.001, 0.499),
    "monitoring.monthly_budget_usd": (1, None),
    "monitoring.budget_alert_percent": (1, 100),
}
# Numbers that take a few values only.
LISTED = {
    "foundation.log_retention_days": (7, 8),
    "training.instance_count": (1, 2),
    "serving.alarms.period_seconds": (60, 10),
    "serverless.memory_mib": (1024, 1536),
    "asynchronous.alarms.period_seconds": (60, 10),
}


def test_every_number_has_its_limits_below() -> None:
    assert {".".join(path) for path in NUMBERS} == LIMITS.keys() | LISTED.keys()


@pytest.mark.parametrize("path", LIMITS)
def test_a_number_beyond_its_limits_is_refused_and_the_limit_is_not(path: str) -> None:
    low, high = LIMITS[path]
    step = 1 if isinstance(low, int) else 0.001
    for value in (-math.inf if low is None else low - step, math.inf if high is None else high + step):
        message = refusal(edited("sandbox", path, value))
        assert message.startswith(f"cdk.json: context.stages.sandbox.{path} = ")
        assert "\n" not in message
    for value in (-(10.0**9) if low is None else low, 10**9 if high is None else high):
        # Another knob may not go with it: then the complaint names the section.
        assert not complaint(edited("sandbox", path, value)).startswith(
            f"cdk.json: context.stages.sandbox.{path} = "
        )


@pytest.mark.parametrize(("path", "values"), LISTED.items())
def test_a_listed_number_is_taken_as_itself_only(path: str, values: tuple[int, int]) -> None:
    taken, other = values
    config.load(edited("sandbox", path, taken))
    for value in (other, float(taken), True):
        message = refusal(edited("sandbox", path, value))
        assert message.startswith(f"cdk.json: context.stages.sandbox.{path} = {json.dumps(value)}: must be ")


BLUE_GREEN = {"bake_seconds": 300, "termination_wait_seconds": 180, "timeout_seconds": 3600}


def linear(percent: int, **changes: int) -> dict[str, object]:
    step = {"unit": "PERCENT", "value": percent}
    return {"strategy": "LINEAR", "step": step, **BLUE_GREEN, **changes}


def canary(percent: int) -> dict[str, object]:
    return {"strategy": "CANARY", "canary": {"unit": "PERCENT", "value": percent}, **BLUE_GREEN}


def rolling(percent: int) -> dict[str, object]:
    batch = {"unit": "PERCENT", "value": percent}
    waits = {"bake_seconds": 300, "timeout_seconds": 3600}
    return {"strategy": "ROLLING", "batch": batch, "rollback_batch": "", **waits}


def at_once(**waits: int) -> dict[str, object]:
    return {"strategy": "ALL_AT_ONCE", "termination_wait_seconds": 180, "timeout_seconds": 3600, **waits}


# One row a rule of AWS (or of ours, where AWS would accept what cannot work): key, value just outside, what is said.
OUT_OF_RANGE: list[tuple[str, object, str]] = [
    ("name", "Flights", "must be 2 to 20 lower-case letters, digits and -"),
    ("name", "a" * 21, "must be 2 to 20 lower-case letters, digits and -"),
    ("dataset", "../flights", "must be lower-case letters, digits, _ and -"),
    ("dataset", "nope", "no such schema file. Schemas in pipeline/schemas/: flights"),
    ("foundation.log_retention_days", 8, "must be 1, 3, 5, 7"),
    ("ingestion.stream_mode", "AUTO", "must be 'PROVISIONED' or 'ON_DEMAND'"),
    ("processing.worker_type", "G.1X", "must be 'G_1X', 'G_2X' or 'G_4X'"),
    ("training.problem_type", "ranking", "must be 'classification' or 'regression'"),
    ("training.estimator", "torch", "must be 'xgboost' or 'linear'"),
    ("training.training_instance_type", "m5.large", "must be ml., family and size, e.g. ml.m5.large"),
    ("training.minimum_auc", 1.0, "AUC is below 1"),
    ("training.maximum_rmse", float("nan"), "must be"),
    ("training.schedule", "daily", "must be a rate, e.g. rate(1 day) or rate(7 days), or"),
    ("training.schedule", "rate(0 days)", "must be a rate, e.g. rate(1 day) or rate(7 days), or"),
    ("training.schedule", "rate(1 days)", "must be a rate, e.g. rate(1 day) or rate(7 days), or"),
    ("training.schedule", "rate(2 day)", "must be a rate, e.g. rate(1 day) or rate(7 days), or"),
    ("training.schedule", "cron(0 12 * * ?)", "a cron expression of six fields, e.g. cron(0 6 * * ? *)"),
    ("training.instance_count", 2, "must be 1"),
    (
        "training.hyperparameters",
        {"num_round": "abc"},
        "num_round = abc: must be a whole number from 1 to 10000",
    ),
    ("training.hyperparameters", {"num_round": -5}, "num_round = -5: must be a whole number from 1 to 10000"),
    ("training.hyperparameters", {"eta": 7}, "eta = 7: must be a number above 0 to 1"),
    ("training.hyperparameters", {"max_depth": 2.5}, "max_depth = 2.5: must be a whole number from 1 to 20"),
    ("training.hyperparameters", {"device": "gpu"}, "device = gpu: must be one of cpu, cuda"),
    (
        "training.hyperparameters",
        {"num_rounds": 10},
        "num_rounds = 10: estimator xgboost has none of that name",
    ),
    ("training.training_instance_type", "ml.m5.gigantic", "no such size of m5. Use one of large, xlarge"),
    ("training.processing_instance_type", "ml.c5.large", "no such size of c5. Use one of xlarge"),
    ("tags", {"aws:x": "1"}, '"aws:x" = "1": AWS takes letters'),
    ("tags", {"AWS:x": "1"}, '"AWS:x" = "1": AWS takes letters'),
    ("tags", {"": "1"}, '"" = "1": AWS takes letters'),
    ("tags", {"project": "a", "Project": "b"}, "IAM takes keys that differ in case alone for the same key"),
    ("tags", {"k" * 129: "1"}, "1 to 128 of them in a key"),
    ("tags", {"owner": "v" * 257}, "at most 256 in a value"),
    ("tags", {"owner": "a&b"}, '"owner" = "a&b": AWS takes letters'),
    ("tags", {f"tag{i}": "" for i in range(47)}, "47 tags: AWS takes 50 a resource, which leaves 46"),
    (
        "training.processing_instance_type",
        "ml.m5d.large",
        "which AWS refuses on instances with local storage",
    ),
    (
        "training.training_instance_type",
        "ml.g4dn.xlarge",
        "which AWS refuses on instances with local storage",
    ),
    ("training.schedule", "cron(0 12 * * * *)", "exactly one of the third and fifth"),
    ("serving.instance_type", "ml.t2.medium", "burstable, and Application Auto Scaling refuses"),
    ("serving.instance_type", "ml.m5d.large", "which AWS refuses on instances with local storage"),
    ("serving.instance_type", "ml.m6g.large", "needs an x86 instance"),
    ("serving.instance_type", "ml.m5.gigantic", "no registered model declares it"),
    ("serving.instance_type", "ml.c7i-flex.xlarge", "no registered model declares it"),
    ("serving.rollout.strategy", "BLUE_GREEN", "must be one of CANARY, LINEAR, ALL_AT_ONCE, ROLLING."),
    ("serving.rollout", linear(9), "must be 10 to 50 percent of the fleet"),
    ("serving.rollout", linear(51), "must be 10 to 50 percent of the fleet"),
    ("serving.rollout", rolling(4), "must be 5 to 50 percent of the fleet"),
    ("serving.rollout.canary.unit", "COUNT", "must be 'PERCENT' or 'INSTANCES'"),
    ("serving.alarms.latency_statistic", "p50", "must be 'p99', 'Average' or 'Maximum'"),
    ("serving.alarms.period_seconds", 10, "must be 60"),
    (
        "serving.alarms.latency_milliseconds",
        60_000,
        "no latency exceeds it: InvokeEndpoint ends a request after 60 s. Use less",
    ),
    (
        "asynchronous.alarms.failed_invocations",
        1_001,
        "an alarm that so many failures in one period do not set off watches nothing. Use 1000 or fewer",
    ),
    (
        "experiment.minimum_effect",
        0.5,
        "a model that errs half of the time is a coin, and no useful one is further from another. Use less than 0.5",
    ),
    ("options", "serverless", 'must be a list: ["serverless"].'),
    ("options", 7, "must be a list."),
    ("options", ["spark"], "must be 'serverless', 'asynchronous', 'batch' or 'experiment'"),
    ("options", ["batch", "batch"], "an option is one stack. List each once"),
    ("asynchronous.instance_type", "ml.t2.medium", "burstable, and Application Auto Scaling refuses"),
    ("asynchronous.input_prefix", "input", "and each must end in /, e.g. batch/input/"),
    ("asynchronous.input_prefix", "/input/", "and each must end in /, e.g. batch/input/"),
    ("asynchronous.rollout.strategy", "NONE", "must be one of CANARY, LINEAR, ALL_AT_ONCE, ROLLING."),
    ("batch.instance_type", "ml.c5.large", "no registered model declares it for batch transform"),
    ("batch.input_filter", "$.features", "must be $, or columns of it, e.g. $[0], $[0,-1] or $[1:]"),
    ("batch.input_filter", "$[0:-1]", "the slice ends at -1, counted from the end"),
    ("batch.output_filter", "$[:-3]", "the slice ends at -3, counted from the end"),
    ("batch.output_filter", "$[" + ",".join(["-1"] * 21) + "]", "at most 63 characters"),
    ("batch.join_source", "Output", "must be 'Input' or 'None'"),
    ("batch.strategy", "Multi", "must be 'MultiRecord' or 'SingleRecord'"),
    ("experiment.kind", "ABC", "must be one of AB, SHADOW."),
    ("monitoring.alarm_email", "nobody", 'must be an address, or "" for nobody'),
]


@pytest.mark.parametrize(("path", "value", "said"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_refused_with_its_limit(path: str, value: object, said: str) -> None:
    message = refusal(edited("sandbox", path, value))
    assert message.startswith(f"cdk.json: context.stages.sandbox.{path}")
    assert said in message
    assert "\n" not in message


def action(name: str, minimum: int, maximum: int, hour: int = 22) -> dict[str, object]:
    return {"name": name, "schedule": f"cron(0 {hour} * * ? *)", "minimum": minimum, "maximum": maximum}


def regression(**batch: object) -> dict[str, object]:
    """A stage that predicts a number, with a batch transform."""
    return {
        "training.problem_type": "regression",
        "options": ["batch"],
        **{f"batch.{k}": v for k, v in batch.items()},
    }


# Each value is fine by itself; together AWS refuses them, or they could never work.
REFUSED_TOGETHER: list[tuple[dict[str, object], str]] = [
    (
        {"serving.instance_count": 1},
        (
            "rollout.canary.value = 50: a canary of 50 % of 1 instance(s), which instance_count = 1 allows, is no whole "
            "instance, and what SageMaker makes of it is not documented. Raise instance_count to 2 or more; a single "
            "instance can only be replaced: ALL_AT_ONCE."
        ),
    ),
    (
        {"serving.rollout.canary.value": 20},
        (
            "rollout.canary.value = 20: a canary of 20 % of 2 instance(s), which instance_count = 2 allows, is no whole "
            "instance, and what SageMaker makes of it is not documented. Raise instance_count to 5 or more, or "
            "rollout.canary.value to 50."
        ),
    ),
    (
        {"serving.rollout": linear(50), "serving.instance_count": 1},
        "rollout.step.value = 50: a step of 50 % of 1 instance(s), which instance_count = 1 allows, is no whole",
    ),
    (
        {"serving.rollout": rolling(25)},
        "rollout.batch.value = 25: a batch of 25 % of 2 instance(s), which instance_count = 2 allows, is no whole",
    ),
    (
        {"serving.rollout.canary": {"unit": "INSTANCES", "value": 2}},
        (
            "rollout.canary.value = 2: a canary of 2 of 2 instance(s), which instance_count = 2 allows, is 100 %: "
            "SageMaker takes 1 to 50 %. Use unit PERCENT, or another value."
        ),
    ),
    (
        {
            "serving.rollout": linear(50) | {"step": {"unit": "INSTANCES", "value": 1}},
            "serving.autoscaling.maximum_instances": 11,
        },
        "rollout.step.value = 1: a step of 1 of 11 instance(s), which autoscaling.maximum_instances = 11 allows, is 9 %",
    ),
    (
        {"serving.rollout.bake_seconds": 179},
        "rollout.bake_seconds = 179 is shorter than the 180 s that an alarm may need to go off",
    ),
    (
        {"serving.rollout.termination_wait_seconds": 179},
        "rollout.termination_wait_seconds = 179 is shorter than the 180 s that an alarm may need to go off",
    ),
    (
        {"serving.alarms.evaluation_periods": 3},
        "rollout.termination_wait_seconds = 180 is shorter than the 240 s that an alarm may need to go off",
    ),
    (
        {"serving.rollout.bake_seconds": 420, "serving.rollout.timeout_seconds": 600},
        "waits add up to 600 s, which is not less than rollout.timeout_seconds = 600",
    ),
    (
        {"serving.rollout": at_once(termination_wait_seconds=300, timeout_seconds=600)},
        "waits add up to 600 s",
    ),
    ({"serving.alarms.error_percent": 33.4}, "error_percent = 33.4 can never be exceeded at first"),
    ({"serving.alarms.quality.minimum_mean_score": 0.6}, "every mean would be outside"),
    (
        {"serving.autoscaling.scheduled": [action("night", 4, 2)]},
        "maximum = 2 is below minimum = 4: Application Auto Scaling refuses it",
    ),
    (
        {"serving.autoscaling.scheduled": [action("night", 2, 4), action("night", 2, 4, hour=6)]},
        "the later of one name would replace the earlier",
    ),
    (
        {"serving.autoscaling.scheduled": [action("night", 2, 2), action("day", 2, 4)]},
        "scheduled: night and day act at the same times, cron(0 22 * * ? *), and which of them comes last is undefined",
    ),
    (
        {"serving.autoscaling.scheduled": [action("night", 2, 3)]},
        "the largest maximum is 3, and maximum_instances = 4",
    ),
    (
        {"serving.autoscaling.scheduled": [action("night", 1, 4)]},
        (
            "rollout.canary.value = 50: a canary of 50 % of 1 instance(s), which autoscaling.scheduled.night.minimum = 1 "
            "allows, is no whole instance, and what SageMaker makes of it is not documented. Raise "
            "autoscaling.scheduled.night.minimum to 2 or more"
        ),
    ),
    (
        {"serving.autoscaling.maximum_instances": 1},
        "autoscaling.maximum_instances = 1 is below instance_count = 2",
    ),
    (
        {
            "serving.alarms.quality.minimum_mean_score": 2.0,
            "serving.alarms.quality.maximum_mean_score": 3.0,
        },
        "a score is 0 to 1, and the band from 2.0 to 3.0 holds none: every rollout would be taken back",
    ),
    (
        {
            "serving.alarms.quality.minimum_mean_score": -3.0,
            "serving.alarms.quality.maximum_mean_score": 0.0,
        },
        "a score is 0 to 1, and the band from -3.0 to 0.0 holds none: every rollout would be taken back",
    ),
    (
        {
            "serving.alarms.quality.minimum_mean_score": 0.0,
            "serving.alarms.quality.maximum_mean_score": 1.0,
        },
        "a score is 0 to 1, and so is the band from 0.0 to 1.0: the alarm could never go off",
    ),
    (
        {"serverless.provisioned_concurrency": 6},
        "provisioned_concurrency = 6 exceeds maximum_concurrency = 5: SageMaker refuses it",
    ),
    (
        {"asynchronous.rollout": canary(50)},
        (
            "rollout.canary.value = 50: a canary of 50 % of 1 instance(s), which minimum_instances = 0 allows, is no whole "
            "instance, and what SageMaker makes of it is not documented. Raise minimum_instances to 2 or more; a single"
        ),
    ),
    (
        {"asynchronous.rollout": canary(50), "asynchronous.minimum_instances": 1},
        "a canary of 50 % of 1 instance(s), which minimum_instances = 1 allows, is no whole instance",
    ),
    (
        {"asynchronous.minimum_instances": 3},
        "minimum_instances = 3 exceeds maximum_instances = 2: Application Auto Scaling refuses it",
    ),
    (
        {"serving.alarms.quality.minimum_predictions": 60_001},
        "minimum_predictions = 60001: the stream's 1 shard(s) take at most 60000 records in a period of 60 s",
    ),
    (
        {"training.problem_type": "regression", "options": ["experiment"]},
        "options lists experiment, and training.problem_type is regression: two models are compared by the errors of",
    ),
    (
        regression(),
        "batch.output_filter = $[0,-2,-1]: a model of regression answers with one column (value), and -2, counted from",
    ),
    (regression(output_filter="$[-2:]"), "and -2, counted from the end, is a column of the input"),
    (
        {"options": ["batch"], "batch.output_filter": "$[0,-3,-1]"},
        "a model of classification answers with 2 columns (score, label), and -3, counted from the end",
    ),
    (
        {"options": ["batch"], "batch.output_filter": "$[-3:]"},
        "and -3, counted from the end, is a column of the input",
    ),
    (
        {"asynchronous.rollout.termination_wait_seconds": 179},
        "rollout.termination_wait_seconds = 179 is shorter than the 180 s that an alarm may need to go off",
    ),
    (
        {"asynchronous.output_prefix": "asynchronous/input/answers/"},
        "asynchronous.output_prefix = asynchronous/input/answers/ lies in asynchronous.input_prefix = asynchronous/input/",
    ),
    (
        {"batch.output_prefix": "batch/"},
        "batch.input_prefix = batch/input/ lies in batch.output_prefix = batch/",
    ),
    (
        {"batch.output_prefix": "asynchronous/input/"},
        "batch.output_prefix = asynchronous/input/ lies in asynchronous.input_prefix = asynchronous/input/",
    ),
    (
        {"batch.output_prefix": "flights/"},
        "batch.output_prefix = flights/ lies in the curated table = flights/",
    ),
    (
        {"asynchronous.failure_prefix": "quarantine/flights/"},
        "asynchronous.failure_prefix = quarantine/flights/ lies in the quarantine = quarantine/",
    ),
    (
        {"batch.max_payload_mb": 51},
        "max_payload_mb = 51 x max_concurrent_transforms = 2 exceeds 100 MB: SageMaker refuses the job",
    ),
    ({"batch.join_source": "None"}, "output_filter = $[0,-2,-1] selects from the joined record"),
    (
        {"ingestion.consumer_max_record_age_seconds": 86_401},
        "= 86401 exceeds stream_retention_hours = 24: Kinesis would have dropped the record",
    ),
    ({"training.estimator": "linear"}, "early_stopping_rounds = 20: estimator linear has none of that name"),
    ({"training.hyperparameters.device": "cuda"}, "device = cuda needs a GPU, and ml.m5.large has none"),
    ({"tags": {"Deployment": "mine"}}, "every resource carries the tag deployment already"),
]


@pytest.mark.parametrize(("values", "said"), REFUSED_TOGETHER)
def test_a_combination_that_cannot_work_is_refused_with_the_reason(
    values: dict[str, object], said: str
) -> None:
    changed = {"stage": "sandbox", "stages": copy.deepcopy(context("sandbox")["stages"])}
    for path, value in values.items():
        changed = {"stage": "sandbox", "stages": _with(changed["stages"], path, value)}
    message = refusal(changed)
    assert said in message
    assert re.fullmatch(r"cdk\.json: context\.stages\.sandbox(\.\w+)*: .*\.", message), message


def _with(stages: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    *parents, last = path.split(".")
    node = stages["sandbox"]
    for key in parents:
        node = node[key]
    node[last] = value
    return stages


@pytest.mark.parametrize(
    "accepted",
    [
        {"serving.rollout": linear(50, bake_seconds=180)},
        {"serving.rollout": rolling(50)},
        {"serving.rollout": at_once(termination_wait_seconds=180), "serving.instance_count": 1},
        {"serving.rollout.bake_seconds": 180},
        {"serving.rollout.termination_wait_seconds": 180},
        {"serving.alarms.error_percent": 33.3},
        {"serving.autoscaling.scheduled": [action("night", 2, 2), action("day", 2, 4, hour=6)]},
        {"asynchronous.minimum_instances": 2},
        {"asynchronous.rollout": canary(50), "asynchronous.minimum_instances": 2},
        {"asynchronous.rollout": linear(50), "asynchronous.minimum_instances": 2},
        {"asynchronous.rollout": rolling(50), "asynchronous.minimum_instances": 2},
        {"serving.alarms.quality.minimum_predictions": 60_000},
        {"serving.alarms.quality.minimum_predictions": 60_001, "ingestion.stream_mode": "ON_DEMAND"},
        regression(output_filter="$[0,-1]"),
        regression(output_filter="$[-1:]"),
        regression(output_filter="$"),
        regression(join_source="None", output_filter="$"),
        {"options": ["batch"], "batch.output_filter": "$[0,-1]"},
        {"options": ["batch"], "batch.output_filter": "$[-2:]"},
        {"options": ["batch"], "batch.output_filter": "$[1,2]"},
        {"serverless.provisioned_concurrency": 5},
        {"batch.max_payload_mb": 50},
        {"batch.join_source": "None", "batch.output_filter": "$", "batch.input_filter": "$[-2:]"},
        {"batch.input_filter": "$[" + ",".join(["-1"] * 20) + "]"},
        {"options": ["experiment", "batch", "asynchronous", "serverless"]},
        {
            "training.problem_type": "regression",
            "serving.alarms.quality.minimum_mean_score": -30.0,
            "serving.alarms.quality.maximum_mean_score": 30.0,
        },
        {"training.problem_type": "regression", "training.maximum_rmse": 0.5},
        {"training.schedule": "cron(0 12 * * ? *)"},
        {"training.minimum_auc": 0.5},
        {"training.hyperparameters": {"num_round": "10", "eta": 1, "max_depth": 20, "device": "cpu"}},
        {"ingestion.consumer_max_record_age_seconds": 86_400},
        {"monitoring.alarm_email": "ops@example.com"},
    ],
    ids=str,
)
def test_the_limit_itself_is_accepted(accepted: dict[str, object]) -> None:
    stages = copy.deepcopy(context("sandbox")["stages"])
    for path, value in accepted.items():
        _with(stages, path, value)
    assert config.load({"stage": "sandbox", "stages": stages}).stage == "sandbox"


def test_as_many_tags_as_fit_and_as_long_as_fit_are_accepted() -> None:
    tags = {f"tag{i}": "" for i in range(43)} | {"project": "größe 1", "_.:/=+-@ é": "", "k" * 128: "v" * 256}
    assert config.load(edited("sandbox", "tags", tags)).tags == tags


def test_several_mistakes_are_one_line_each() -> None:
    stages = copy.deepcopy(context("sandbox")["stages"])
    _with(stages, "foundation.isolation", "yes")
    _with(stages, "training.hyperparameters.eta", None)
    lines = refusal({"stage": "sandbox", "stages": stages}).splitlines()
    assert [line.split(" = ")[0] for line in lines] == [
        "cdk.json: context.stages.sandbox.foundation.isolation",
        "cdk.json: context.stages.sandbox.training.hyperparameters.eta",
    ]


def test_no_alarm_address_is_an_empty_string_because_cdk_drops_nulls() -> None:
    assert config.load(edited("sandbox", "monitoring.alarm_email", "")).monitoring.alarm_email is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stage": "staging"}, 'cdk.json: stage = "staging": must be one of sandbox, production.'),
        ({"stage": None}, "cdk.json: stage = null: must be one of sandbox, production."),
        ({"stage": ["sandbox"]}, 'cdk.json: stage = ["sandbox"]: must be one of sandbox, production.'),
        ({"stage": "sandbox"}, "cdk.json: context.stages.sandbox: missing."),
        ({"stage": "sandbox", "stages": []}, "cdk.json: context.stages.sandbox: missing."),
        ({"stage": "sandbox", "stages": {"sandbox": 3}}, "context.stages.sandbox = 3: must be an object."),
    ],
)
def test_a_wrong_stage_is_refused(changed: dict[str, Any], said: str) -> None:
    message = refusal(changed)
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("key", ["Stage", "stagee", "stages.sandbox.serving.instance_count"])
def test_a_key_of_the_command_line_that_nothing_reads_is_refused(key: str) -> None:
    message = refusal({**context("sandbox"), key: "1"})
    assert message.startswith(f'cdk.json: context.{key} = "1": unknown key.')
    assert "\n" not in message


def test_what_the_cli_keeps_in_the_context_is_its_own() -> None:
    kept = {"acknowledged-issue-numbers": [1], "aws:cdk:bundling-stacks": ["**"], "cli-telemetry": False}
    assert config.load({**context("sandbox"), **kept}).stage == "sandbox"


def test_no_context_at_all_means_that_the_cli_was_left_out() -> None:
    assert refusal({}) == (
        "no context: the CDK CLI passes that of cdk.json to app.py. Run: npx cdk synth, or make synth."
    )


@pytest.fixture
def app_refuses(tmp_path: Path) -> Callable[[dict[str, Any]], str]:
    """Run the real `python app.py` on a context; return its one line of complaint."""

    def run(app_context: dict[str, Any]) -> str:
        with offline_environment(tmp_path / "connections") as environment:
            completed = run_app(app_context, tmp_path / "out", environment=environment)
        assert completed.returncode == 1
        assert "Traceback" not in completed.stderr
        assert not (tmp_path / "out" / "manifest.json").exists()
        return completed.stderr.strip()

    return run


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        pytest.param("ingestion.shard_count", "2", "must be a valid integer.", id="type"),
        pytest.param("dataset", "nope", "no such schema file", id="schema", marks=pytest.mark.deep),
        pytest.param(
            "serving.instance_count",
            1,
            "what SageMaker makes of it is not documented",
            id="together",
            marks=pytest.mark.deep,
        ),
    ],
)
def test_the_app_itself_exits_with_one_line_and_no_traceback(
    path: str, value: object, said: str, app_refuses: Callable[[dict[str, Any]], str]
) -> None:
    message = app_refuses(json.loads(json.dumps({**context("sandbox"), **edited("sandbox", path, value)})))
    assert message.startswith("cdk.json: context.stages.sandbox.")
    assert said in message
    assert len(message.splitlines()) == 1
