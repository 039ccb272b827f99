"""CloudWatch's alarms: judged once a minute with dimensions, missing data and metric math, and told to EventBridge.

MiniStack judges an alarm only when somebody puts a metric, over all dimensions together, and never by silence.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from typing import Any

from local.cloud import clock, events, seams
from local.cloud.evaluation import EXTRA_PERIODS, UnsupportedError, Value, calculate, judge
from local.cloud.extensions import Cloud
from local.cloud.place import ACCOUNT, REGION

EVERY_SECONDS = 60

# When each alarm last went off, in seconds of the epoch: whoever looks now and then must not miss one that came back.
_rang: dict[str, float] = {}


def install(cloud: Cloud) -> None:
    """Judge in a loop of our own, and let every change of state be an event."""
    seams.replace(seams.cloudwatch, "_evaluate_alarm", lambda _original: lambda _alarm: None)
    seams.replace(seams.cloudwatch, "_record_history", _history)
    seams.replace(seams.cloudwatch, "_dispatch_alarm_actions", _actions)
    stopped = threading.Event()
    cloud.closing.callback(stopped.set)
    threading.Thread(target=_loop, args=(stopped,), name="alarms", daemon=True).start()


def arn(name: str) -> str:
    """The ARN of an alarm."""
    return f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}"


def state(name: str) -> str | None:
    """The state of an alarm, None if there is none of that name."""
    alarm = seams.cloudwatch._alarms.get_scoped(ACCOUNT, REGION, name)
    return None if alarm is None else str(alarm["StateValue"])


def rang(name: str, since: float) -> bool:
    """Whether an alarm is in ALARM, or was since a moment (seconds of the epoch)."""
    return state(name) == "ALARM" or _rang.get(name, 0.0) >= since


def _loop(stopped: threading.Event) -> None:
    while not stopped.wait(max(0.5, clock.scaled(EVERY_SECONDS))):
        for alarm in list(seams.cloudwatch._alarms._data.values()):
            try:
                _evaluate(alarm, time.time())
            except UnsupportedError as error:
                alarm["StateReason"] = str(error)


def _evaluate(alarm: dict[str, Any], now: float) -> None:
    periods = int(alarm["EvaluationPeriods"])
    newest_first = [_datapoint(alarm, now, place) for place in range(periods + EXTRA_PERIODS)]
    state = judge(
        newest_first,
        periods=periods,
        needed=int(alarm.get("DatapointsToAlarm") or periods),
        comparison=alarm["ComparisonOperator"],
        threshold=float(alarm["Threshold"]),
        missing=alarm.get("TreatMissingData") or "missing",
    )
    old = alarm["StateValue"]
    if state is None or state == old:
        return
    shown = ", ".join("none" if value is None else f"{value:g}" for value in newest_first[:periods])
    reason = (
        f"Threshold Crossed: data points, newest first: {shown}; {alarm['ComparisonOperator']} "
        f"{float(alarm['Threshold']):g}; missing data are treated as {alarm.get('TreatMissingData') or 'missing'}."
    )
    alarm |= {"StateValue": state, "StateReason": reason, "StateUpdatedTimestamp": int(now)}
    seams.cloudwatch._record_history(alarm["AlarmName"], old, state, reason)
    seams.cloudwatch._dispatch_alarm_actions(alarm, old, state, reason)


def _datapoint(alarm: dict[str, Any], now: float, place: int) -> Value:
    """The alarm's value in the period that ended `place` periods ago."""
    queries = alarm.get("Metrics")
    if not queries:
        statistic = alarm.get("ExtendedStatistic") or alarm.get("Statistic") or "Average"
        return _statistic(alarm, statistic, int(alarm["Period"]), now, place)
    values: dict[str, Value] = {}
    for query in queries:
        if metric := query.get("MetricStat"):
            values[query["Id"]] = _statistic(
                metric["Metric"], metric["Stat"], int(metric["Period"]), now, place
            )
    for query in queries:
        if query.get("Expression") and query.get("ReturnData", True) not in (False, "false"):
            return calculate(query["Expression"], values)
    returned = [query for query in queries if query.get("ReturnData", True) not in (False, "false")]
    return values[returned[0]["Id"]]


def _statistic(metric: dict[str, Any], statistic: str, period: int, now: float, place: int) -> Value:
    length = clock.scaled(period)
    end = now - place * length
    dimensions = {item["Name"]: item["Value"] for item in metric.get("Dimensions") or []}
    key = (metric["Namespace"], metric["MetricName"], seams.cloudwatch._dims_key(dimensions))
    points = []
    for point in reversed(seams.cloudwatch._metrics.get_scoped(ACCOUNT, REGION, key) or []):
        if point["Timestamp"] <= end - length:
            break
        if point["Timestamp"] <= end:
            points.append(point)
    if not points:
        return None
    found = seams.cloudwatch._stat_value(seams.cloudwatch._calc_stats(points), statistic, points)
    return None if found is None else float(found)


def _history(original: Callable[..., None]) -> Callable[..., None]:
    """Every change of state passes here, SetAlarmState's too."""

    def record(name: str, old: str, new: str, reason: str, *rest: Any, **named: Any) -> None:
        original(name, old, new, reason, *rest, **named)
        alarm = seams.cloudwatch._alarms.get(name)
        if alarm is None or old == new:  # composite, or only configured
            return
        if new == "ALARM":
            _rang[name] = time.time()
        at = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "+0000")
        detail = {
            "alarmName": name,
            "state": {"value": new, "reason": reason, "timestamp": at},
            "previousState": {"value": old},
            "configuration": {
                "description": alarm.get("AlarmDescription", ""),
                "metrics": _metrics(alarm),
            },
        }
        events.emit("aws.cloudwatch", "CloudWatch Alarm State Change", detail, [alarm["AlarmArn"]])

    return record


def _metrics(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    if not alarm.get("Metrics"):
        dimensions = {item["Name"]: item["Value"] for item in alarm.get("Dimensions") or []}
        metric = {
            "namespace": alarm["Namespace"],
            "name": alarm["MetricName"],
            "dimensions": dimensions,
        }
        statistic = alarm.get("ExtendedStatistic") or alarm.get("Statistic")
        stat = {"metric": metric, "period": alarm["Period"], "stat": statistic}
        return [{"id": "m1", "metricStat": stat, "returnData": True}]
    return [
        {
            "id": query["Id"],
            **({"expression": query["Expression"]} if query.get("Expression") else {}),
            "returnData": query.get("ReturnData", True) not in (False, "false"),
        }
        for query in alarm["Metrics"]
    ]


def _actions(original: Callable[..., None]) -> Callable[..., None]:
    """A topic that does not let CloudWatch publish for this alarm gets nothing."""

    def dispatch(alarm: dict[str, Any], old: str, new: str, reason: str) -> None:
        allowed = dict(alarm)
        for kind in ("AlarmActions", "OKActions", "InsufficientDataActions"):
            allowed[kind] = [action for action in alarm.get(kind) or [] if _may_publish(action, alarm)]
        original(allowed, old, new, reason)

    return dispatch


def _may_publish(topic: str, alarm: dict[str, Any]) -> bool:
    if ":sns:" not in topic:  # a scaling policy looks at its alarms itself
        return False
    try:
        events.permit("cloudwatch.amazonaws.com", topic, "sns:Publish", alarm["AlarmArn"])
    except events.UndeliveredError as refused:
        print(f"{alarm['AlarmName']}: {refused}", flush=True)
        return False
    return True
