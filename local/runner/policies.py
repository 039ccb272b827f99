"""When a step is tried again, and when it need not run: RetryPolicies and CacheConfig of a definition.

Sources: "Retry Policy for Pipeline Steps", "Caching pipeline steps" and "Default cache key attributes by pipeline step
type" (SageMaker AI Developer Guide).
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
from collections.abc import Mapping
from typing import Any

from local.runner.expressions import DefinitionError

THROTTLING, SERVICE_FAULT = "Step.THROTTLING", "Step.SERVICE_FAULT"
INTERNAL_ERROR, CAPACITY_ERROR = "SageMaker.JOB_INTERNAL_ERROR", "SageMaker.CAPACITY_ERROR"
RESOURCE_LIMIT = "SageMaker.RESOURCE_LIMIT"
_EXCEPTIONS = frozenset({THROTTLING, SERVICE_FAULT, INTERNAL_ERROR, CAPACITY_ERROR, RESOURCE_LIMIT})
# How a FailureReason begins when the job's container is not to blame.
_JOB_FAULTS = {"InternalServerError": INTERNAL_ERROR, "CapacityError": CAPACITY_ERROR}
_THROTTLED, _FAULT = 429, 500

_KEY_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "Processing": ("AppSpecification", "Environment", "ProcessingInputs"),
    "Training": (
        *("AlgorithmSpecification", "CheckpointConfig", "DebugHookConfig", "DebugRuleConfigurations"),
        *("Environment", "HyperParameters", "InputDataConfig"),
    ),
}
_DURATION = re.compile(
    r"P?(?=.)(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?",
    re.IGNORECASE,  # AWS's own examples say "30d" and "T30m" too
)
_DAY = 86_400
_SECONDS = (365 * _DAY, 30 * _DAY, 7 * _DAY, _DAY, 3600, 60, 1)


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """Which faults are tried again, how often, and after which waits: `interval_seconds` times `backoff_rate`^n."""

    exceptions: frozenset[str]
    interval_seconds: float
    backoff_rate: float
    max_attempts: int
    expire_after: dt.timedelta | None

    def wait(self, retries: int, started: dt.datetime) -> float | None:
        """The seconds before the next attempt of a step that was tried again so often; None if there is none."""
        expired = self.expire_after and dt.datetime.now(dt.UTC) - started > self.expire_after
        if expired or retries >= self.max_attempts:
            return None
        return float(self.interval_seconds * self.backoff_rate**retries)


def retry_policies(raw: object, where: str) -> tuple[RetryPolicy, ...]:
    """Read a step's RetryPolicies."""
    if not isinstance(raw, list):
        raise DefinitionError(f"{where}: RetryPolicies = {raw!r}: must be a list.")
    return tuple(_policy(item, f"{where}: RetryPolicies") for item in raw)


def cache_seconds(raw: object, where: str) -> int | None:
    """For how long a step's success may stand in for another run; None if caching is off."""
    if not isinstance(raw, Mapping) or raw.keys() - {"Enabled", "ExpireAfter"}:
        raise DefinitionError(f"{where}: CacheConfig = {raw!r}: takes Enabled and ExpireAfter.")
    if not raw.get("Enabled"):
        return None
    found = _DURATION.fullmatch(str(raw.get("ExpireAfter")))
    if found is None:
        raise DefinitionError(
            f"{where}: CacheConfig: ExpireAfter = {raw.get('ExpireAfter')!r}: must be an ISO 8601 duration."
        )
    return sum(int(number or 0) * unit for number, unit in zip(found.groups(), _SECONDS, strict=True))


def cache_key(kind: str, request: Mapping[str, Any]) -> str:
    """What must be equal for a step's success to stand in for another run."""
    return json.dumps({name: request.get(name) for name in _KEY_ATTRIBUTES[kind]}, sort_keys=True)


def fault_of_job(reason: str) -> str | None:
    """The exception type of a job that failed for this reason, if retries know one."""
    return _JOB_FAULTS.get(reason.partition(":")[0])


def fault_of_call(response: Mapping[str, Any]) -> str | None:
    """The exception type of a refused call (`ClientError.response`), if retries know one."""
    code = response.get("Error", {}).get("Code", "")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if "Throttl" in code or status == _THROTTLED:
        return THROTTLING
    if code == "ResourceLimitExceeded":
        return RESOURCE_LIMIT
    return SERVICE_FAULT if status >= _FAULT else None


def _policy(raw: object, where: str) -> RetryPolicy:
    known = {"ExceptionType", "IntervalSeconds", "BackoffRate", "MaxAttempts", "ExpireAfterMin"}
    if not isinstance(raw, Mapping) or raw.keys() - known:
        raise DefinitionError(f"{where}: {raw!r}: takes {', '.join(sorted(known))}.")
    exceptions = raw.get("ExceptionType")
    if not isinstance(exceptions, list) or not exceptions or {*map(str, exceptions)} - _EXCEPTIONS:
        raise DefinitionError(
            f"{where}: ExceptionType = {exceptions!r}: must be of {', '.join(sorted(_EXCEPTIONS))}."
        )
    for name, value in raw.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if name != "ExceptionType" and not number:
            raise DefinitionError(f"{where}: {name} = {value!r}: must be a number of at least 0.")
    minutes = raw.get("ExpireAfterMin")
    return RetryPolicy(
        frozenset(exceptions),
        raw.get("IntervalSeconds", 1),
        raw.get("BackoffRate", 2.0),
        raw.get("MaxAttempts", 5),
        None if minutes is None else dt.timedelta(minutes=minutes),
    )
