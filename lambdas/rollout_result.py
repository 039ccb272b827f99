"""What became of an approval: told on the event bus, and written beside the version in the registry.

The event reaches a person (stacks/monitoring/failures.py). The metadata is read by people and by `registry.wanted`,
and is what makes a report happen once. It never touches the approval: that is a person's.
"""

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from botocore.exceptions import ClientError

from lambdas import registry
from lambdas.registry import Version

DETAIL_TYPE = "Rollout Result"
# What the registry takes ("CustomerMetadataMap", SageMaker API Reference): letters, numbers, spaces and _ . : / = + - @
_REFUSED, _LONGEST = re.compile(r"[^\w\s.:/=+@-]+"), 256


@dataclass(frozen=True)
class Result:
    """One of the registry's words about one version, at the UTC time of the event that decided it: no two at the same.

    `package` and `running` are ARNs of model packages; `running` is what serves now, empty if nothing or unknown.
    """

    package: str
    result: str
    reason: str
    running: str
    stack_status: str
    at: str


def waiting(version: Version, ringing: list[str], running: str, stack_status: str, at: str) -> Result:
    """That `version` is not released yet, because `ringing` alarms would take it back, and what a person can do."""
    reason = (
        f"{', '.join(ringing)} rings and would take it back. It is released when the alarm is quiet; if the version in "
        "service is the cause: reject that one"
    )
    return Result(version.arn, registry.WAITING, reason, running, stack_status, at)


def report(result: Result, *, source: str, events: Any, sagemaker: Any) -> bool:
    """Tell and write a result; False if this one, or a later one, has been reported already.

    Told first: a report that comes twice is better than one that does not come.
    """
    known = registry.find(sagemaker, result.package)
    if known and known.at >= result.at:
        return False
    tell(result, source=source, events=events)
    if known:
        write(result, sagemaker=sagemaker)
    return True


def tell(result: Result, *, source: str, events: Any) -> None:
    """Put a result on the default bus."""
    detail = {key.replace("_", "-"): value for key, value in asdict(result).items()}
    entry = {
        "Source": source,
        "DetailType": DETAIL_TYPE,
        "Detail": json.dumps({**detail, "version": int(result.package.rsplit("/", 1)[-1])}),
    }
    (answer,) = events.put_events(Entries=[entry])["Entries"]
    if "ErrorCode" in answer:
        raise RuntimeError(f"{source}: EventBridge refused the result: {answer['ErrorMessage']}")


def write(result: Result, *, sagemaker: Any) -> None:
    """Write a result beside its version; a version that has been deleted meanwhile takes none."""
    properties = {
        registry.RESULT_KEY: result.result,
        registry.AT_KEY: result.at,
        registry.REASON_KEY: _accepted(result.reason),
    }
    try:
        sagemaker.update_model_package(ModelPackageArn=result.package, CustomerMetadataProperties=properties)
    except ClientError as error:
        if "does not exist" not in error.response["Error"]["Message"]:
            raise


def _accepted(reason: str) -> str:
    """The reason in the registry's alphabet and length; never empty."""
    return " ".join(_REFUSED.sub(" ", reason).split())[:_LONGEST].strip() or "no reason given"
