"""The alarms of scaling policies: those that target tracking makes for itself, and all that are in ALARM.

AWS names them `TargetTracking-<resource>-AlarmHigh-<id>` and `-AlarmLow-`, and documents that they scale in only well
below the target. Their periods it does not document: three minutes above, fifteen below 90 percent is what it makes.
"""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from local.cloud import alarms, seams
from local.cloud.protocol import ApiError
from local.cloud.scaling import Breach, Policy
from local.cloud.scaling_engine import Record, variant_of

# Suffix: comparison, share of the target, minutes.
_SIDES = {
    "AlarmHigh": ("GreaterThanThreshold", 1.0, 3),
    "AlarmLow": ("LessThanThreshold", 0.9, 15),
}
# "MetricAggregationType": over the data points that the alarm was judged by.
_AGGREGATE: dict[str, Callable[[list[float]], float]] = {
    "Average": statistics.fmean,
    "Minimum": min,
    "Maximum": max,
}


def put(client: Any, record: Record) -> list[Record]:
    """Make or change the two alarms of a target tracking policy (one if it never scales in): names and ARNs."""
    given = record["TargetTrackingScalingPolicyConfiguration"]
    names = dict.fromkeys(_SIDES, "") | {_suffix(it["AlarmName"]): it["AlarmName"] for it in record["Alarms"]}
    wanted = ["AlarmHigh"] if given.get("DisableScaleIn") else list(_SIDES)
    remove(client, [{"AlarmName": name} for suffix, name in names.items() if name and suffix not in wanted])
    found = []
    for suffix in wanted:
        comparison, share, minutes = _SIDES[suffix]
        name = names[suffix] or f"TargetTracking-{record['ResourceId']}-{suffix}-{uuid.uuid4()}"
        client.put_metric_alarm(
            AlarmName=name,
            AlarmDescription=f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {record['PolicyARN']}.",
            AlarmActions=[record["PolicyARN"]],
            ComparisonOperator=comparison,
            Threshold=given["TargetValue"] * share,
            EvaluationPeriods=minutes,
            Period=60,
            **_metric(record["ResourceId"], given),
        )
        described = client.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]
        found.append({"AlarmName": name, "AlarmARN": described["AlarmArn"]})
    return found


def remove(client: Any, found: list[Record]) -> None:
    """Delete these alarms."""
    if found:
        client.delete_alarms(AlarmNames=[it["AlarmName"] for it in found])


def of(policy: str) -> list[Record]:
    """Every alarm that names the policy of this ARN as an action: names and ARNs."""
    return [{"AlarmName": it["AlarmName"], "AlarmARN": it["AlarmArn"]} for it in _naming(policy)]


def breaches(record: Record, policy: Policy) -> Iterator[Breach]:
    """The alarms in ALARM that name this policy, with the value that they were judged by."""
    kind = record.get("StepScalingPolicyConfiguration", {}).get("MetricAggregationType", "Average")
    for alarm in _naming(record["PolicyARN"]):
        if alarm["StateValue"] != "ALARM" or not alarm.get("ActionsEnabled", True):
            continue
        periods = 1 if record["PolicyType"] == "TargetTrackingScaling" else int(alarm["EvaluationPeriods"])
        now = time.time()
        values = [alarms._datapoint(alarm, now, place) for place in range(periods)]
        if existing := [value for value in values if value is not None]:
            above = alarm["ComparisonOperator"].startswith("GreaterThan")
            value = _AGGREGATE[kind](existing)
            yield Breach(policy, alarm["AlarmName"], value, float(alarm["Threshold"]), above)


def _naming(policy: str) -> Iterator[Record]:
    for alarm in list(seams.cloudwatch._alarms._data.values()):
        if policy in (alarm.get("AlarmActions") or []):
            yield alarm


def _metric(resource: str, given: Record) -> Record:
    """The metric of a configuration, as `PutMetricAlarm` takes it."""
    if custom := given.get("CustomizedMetricSpecification"):
        if "Metrics" in custom:
            raise ApiError("ValidationException", "Metric math is unsupported in the embedded cloud.")
        return {"Dimensions": [], **custom}
    kind = given["PredefinedMetricSpecification"]["PredefinedMetricType"]
    if kind != "SageMakerVariantInvocationsPerInstance":
        raise ApiError("ValidationException", f"{kind} is unsupported in the embedded cloud.")
    endpoint, variant = variant_of(resource)
    names = {"EndpointName": endpoint, "VariantName": variant}
    return {
        "Namespace": "AWS/SageMaker",
        "MetricName": "InvocationsPerInstance",
        "Statistic": "Sum",
        "Dimensions": [{"Name": name, "Value": value} for name, value in names.items()],
    }


def _suffix(name: str) -> str:
    return next(suffix for suffix in _SIDES if f"-{suffix}-" in name)
