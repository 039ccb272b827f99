"""Looks at the endpoint and its rollback alarms a few times a second, as a person with the console open would."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from local.demo.account import Account
from local.rollout.timeline import State

EVERY_SECONDS = 0.2


class Watch:
    """Collects `states` during a block, on a thread; `alarms` are the names to show, by the names AWS knows."""

    def __init__(self, account: Account, endpoint: str, alarms: Mapping[str, str]) -> None:
        self.states: list[State] = []
        self._sagemaker, self._cloudwatch = account.client("sagemaker"), account.client("cloudwatch")
        self._endpoint, self._alarms = endpoint, alarms
        self._known: set[tuple[str, Any]] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="watch")

    def __enter__(self) -> Self:
        self._rang()
        self.look()
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def look(self) -> None:
        """Look once; the moment is that before the question."""
        at = time.time()
        described = self._sagemaker.describe_endpoint(EndpointName=self._endpoint)
        found = self._cloudwatch.describe_alarms(AlarmNames=list(self._alarms))["MetricAlarms"]
        rang = self._rang()
        states = {
            self._alarms[alarm["AlarmName"]]: "ALARM" if alarm["AlarmName"] in rang else alarm["StateValue"]
            for alarm in found
        }
        doing, active = _pending(described)
        self.states.append(
            State(at, described["EndpointStatus"], described["EndpointConfigName"], doing, active, states)
        )

    def _rang(self) -> set[str]:
        """The alarms that went off since the last look: a short one may be over again."""
        history = self._cloudwatch.describe_alarm_history(HistoryItemType="StateUpdate", MaxRecords=100)
        every = {
            (item["AlarmName"], item["Timestamp"])
            for item in history["AlarmHistoryItems"]
            if item["HistorySummary"].endswith("to ALARM")
        }
        new, self._known = every - self._known, every
        return {name for name, _ in new}

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_SECONDS):
            try:
                self.look()
            except (BotoCoreError, ClientError):
                continue  # one look less


def _pending(described: Mapping[str, Any]) -> tuple[str, float | None]:
    """What the new fleet does, in SageMaker's words, and the share of its instances that take traffic."""
    pending = described.get("PendingDeploymentSummary")
    if not pending:
        return "", None
    (variant,) = pending["ProductionVariants"]
    (status, *_) = variant.get("VariantStatus") or [None]  # none while the old fleet ends
    doing = f"{status['Status']}: {status['StatusMessage']}" if status else ""
    return doing, variant["CurrentInstanceCount"] / max(1, variant["DesiredInstanceCount"])
