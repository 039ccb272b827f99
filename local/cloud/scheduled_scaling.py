"""Scheduled actions: at their time the limits of a target become others ("Scheduled scaling", Application Auto Scaling)."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from typing import Any

from local.cloud import clock, seams
from local.cloud.place import ACCOUNT, REGION
from local.cloud.protocol import ApiError

Record = dict[str, Any]
_UNSUPPORTED = ("StartTime", "EndTime")


class Scheduled:
    """Actions by target and name, each with the moment at which it is due next."""

    def __init__(self) -> None:
        self._actions: dict[tuple[str, str], tuple[Record, float | None]] = {}

    def put(self, request: Record) -> None:
        """Add or change one; `ApiError` for a schedule that cannot be read."""
        for name in _UNSUPPORTED:
            if name in request:
                raise ApiError("ValidationException", f"{name} is unsupported in the embedded cloud.")
        if request.get("Timezone", "UTC") != "UTC":
            raise ApiError(
                "ValidationException", "A Timezone other than UTC is unsupported in the embedded cloud."
            )
        key = request["ResourceId"], request["ScheduledActionName"]
        old, due = self._actions.get(key, (None, None))
        record = {**(old or _new(request)), **request}
        if "Schedule" not in record or not record.get("ScalableTargetAction"):
            raise ApiError(
                "ValidationException", "Schedule and ScalableTargetAction are required for a new action."
            )
        if old is None or old["Schedule"] != record["Schedule"]:
            due = following(record["Schedule"], time.time())
        self._actions[key] = record, due

    def remove(self, resource: str, name: str | None = None) -> bool:
        """Forget one action of a resource, or all; whether there was one."""
        found = [key for key in self._actions if key[0] == resource and name in {None, key[1]}]
        for key in found:
            del self._actions[key]
        return bool(found)

    def of(self, resource: str | None, names: list[str]) -> list[Record]:
        """The actions of a resource, or all; with these names, if any are given."""
        return [
            record
            for record, _ in self._actions.values()
            if resource in {None, record["ResourceId"]}
            and record["ScheduledActionName"] in (names or [record["ScheduledActionName"]])
        ]

    def due(self, resource: str, now: float) -> list[Record]:
        """The actions of a resource whose time has come, oldest first; each is due again at its next time."""
        found = []
        for key, (record, moment) in list(self._actions.items()):
            if key[0] == resource and moment is not None and moment <= now:
                found.append((moment, record))
                again = None if record["Schedule"].startswith("at(") else following(record["Schedule"], now)
                self._actions[key] = record, again
        return [record for _, record in sorted(found, key=lambda it: it[0])]


def following(schedule: str, after: float) -> float | None:
    """The first moment after `after` at which a schedule is due, None if there is none; rates count from `after`."""
    if schedule.startswith("at("):
        try:
            at = dt.datetime.fromisoformat(schedule.removeprefix("at(").removesuffix(")")).replace(
                tzinfo=dt.UTC
            )
        except ValueError:
            raise _unreadable(schedule) from None
        moment = clock.moment(at.timestamp())
        return moment if moment > after else None
    if (seconds := seams.eventbridge._parse_rate_seconds(schedule)) is not None:
        return after + float(seconds)
    if (fields := seams.eventbridge._parse_cron_fields(schedule)) is None:
        raise _unreadable(schedule)
    found: dt.datetime | None = seams.eventbridge._cron_next_fire(
        fields, dt.datetime.fromtimestamp(after, dt.UTC)
    )
    return found.timestamp() if found else None


def _unreadable(schedule: str) -> ApiError:
    return ApiError("ValidationException", f"{schedule} is no schedule: write at(…), rate(…) or cron(…).")


def _new(request: Record) -> Record:
    namespace, resource, name = (
        request[it] for it in ("ServiceNamespace", "ResourceId", "ScheduledActionName")
    )
    arn = (
        f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:scheduledAction:{uuid.uuid4()}:"
        f"resource/{namespace}/{resource}:scheduledActionName/{name}"
    )
    return {"ScheduledActionARN": arn, "CreationTime": dt.datetime.now(dt.UTC)}
