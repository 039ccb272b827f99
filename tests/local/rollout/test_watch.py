"""A look tells what is, and what an alarm did since the last one."""

import datetime as dt
from types import SimpleNamespace
from typing import Any

from local.rollout.watch import Watch

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Cloud:
    """An account whose alarm is quiet whenever it is asked for; `history` is what it did."""

    def __init__(self) -> None:
        self.history: list[dict[str, Any]] = []

    def client(self, _service: str) -> SimpleNamespace:
        quiet = {"MetricAlarms": [{"AlarmName": "stack-Errors", "StateValue": "OK"}]}
        return SimpleNamespace(
            describe_endpoint=lambda **_: {"EndpointStatus": "InService", "EndpointConfigName": "config"},
            describe_alarms=lambda **_: quiet,
            describe_alarm_history=lambda **_: {"AlarmHistoryItems": self.history},
        )

    def change(self, second: int, summary: str) -> None:
        at = NOW + dt.timedelta(seconds=second)
        item = {
            "AlarmName": "stack-Errors",
            "Timestamp": at,
            "HistorySummary": f"Alarm updated from {summary}",
        }
        self.history = [item, *self.history]


def test_an_alarm_that_rang_between_two_looks_is_seen_once() -> None:
    cloud = Cloud()
    cloud.change(0, "OK to ALARM")  # before the watch began
    cloud.change(1, "ALARM to OK")
    watch = Watch(cloud, "endpoint", {"stack-Errors": "Errors"})  # type: ignore[arg-type]
    with watch:
        pass
    watch.look()
    cloud.change(2, "OK to ALARM")
    cloud.change(3, "ALARM to OK")
    watch.look()
    watch.look()
    assert {state.alarms["Errors"] for state in watch.states[:-2]} == {"OK"}
    assert [state.alarms["Errors"] for state in watch.states[-2:]] == ["ALARM", "OK"]
