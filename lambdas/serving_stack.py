"""The Serving stack, or one that follows it, as the release functions see it: read it, and change its one parameter."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

MODEL_PARAMETER = "ModelPackageArn"
# Whether alarms may take the next update of the endpoint back; only Serving has it.
GUARD_PARAMETER, ON, OFF = "RollbackAlarms", "on", "off"
ENDPOINT_OUTPUT, CONFIG_OUTPUT, ALARMS_OUTPUT = "EndpointName", "EndpointConfigName", "RollbackAlarmNames"
# There is a name, and nothing that could be updated: a change set nobody ran, or a creation that failed.
NEVER_CREATED = frozenset({"REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED"})
THROTTLED = frozenset({"RequestLimitExceeded", "Throttling", "ThrottlingException"})


class StackBusyError(Exception):
    """An update is running, or CloudFormation is asked too often: it takes no other now. Try again later."""


class StackMissingError(Exception):
    """There is no such stack, or its creation never succeeded."""


@dataclass(frozen=True)
class ServingStack:
    """The stack as CloudFormation describes it; outputs of conditional resources may be missing."""

    name: str
    status: str
    parameters: dict[str, str]
    outputs: dict[str, str]

    @property
    def busy(self) -> bool:
        """Whether an operation is running."""
        return self.status.endswith("_IN_PROGRESS")

    @property
    def updatable(self) -> bool:
        """Whether it takes an update: not after a way back, or a deletion, that failed."""
        return self.status.endswith("_COMPLETE")

    @property
    def model_package(self) -> str:
        """The model package the stack was last told to serve; empty before the first."""
        return self.parameters[MODEL_PARAMETER]

    @property
    def rollback_alarms(self) -> list[str]:
        """The names of the alarms that would take a rollout back."""
        return [name for name in self.outputs.get(ALARMS_OUTPUT, "").split(",") if name]


@dataclass(frozen=True)
class ResourceFailure:
    """What failed first in an update: a type such as "AWS::SageMaker::Endpoint", its status, and the reason."""

    type: str
    status: str
    reason: str


def read(cloudformation: Any, name: str) -> ServingStack:
    """Describe the stack `name`; `StackMissingError` if there is none."""
    with _waits(name):
        found = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    if found["StackStatus"] in NEVER_CREATED:
        raise StackMissingError(f"{name} has never been created ({found['StackStatus']})")
    return ServingStack(
        name=name,
        status=found["StackStatus"],
        parameters={item["ParameterKey"]: item["ParameterValue"] for item in found.get("Parameters", [])},
        outputs={item["OutputKey"]: item["OutputValue"] for item in found.get("Outputs", [])},
    )


def serve(
    cloudformation: Any,
    stack: ServingStack,
    *,
    model_package: str,
    role: str,
    token: str,
    guarded: bool = True,
) -> None:
    """Tell the stack to serve `model_package`, changing nothing else; serving it already is success.

    `guarded` says whether the stack's alarms may take it back: each call decides anew.

    Every other parameter is passed as `UsePreviousValue`, or it would fall back to its default. `role` does the update
    in place of the stack's own, which is an administrator. `token` makes a second call for the same event harmless,
    and comes back in the stack's events. Raises `StackBusyError` while another update runs.
    """
    given = {MODEL_PARAMETER: model_package, GUARD_PARAMETER: ON if guarded else OFF}
    parameters = [
        {"ParameterKey": key, "ParameterValue": given[key]}
        if key in given
        else {"ParameterKey": key, "UsePreviousValue": True}
        for key in sorted(stack.parameters)
    ]
    with _waits(stack.name):
        try:
            cloudformation.update_stack(
                StackName=stack.name,
                UsePreviousTemplate=True,
                Parameters=parameters,
                RoleARN=role,
                ClientRequestToken=token,
            )
        except ClientError as error:
            if "No updates are to be performed" not in error.response["Error"]["Message"]:
                raise


def first_failure(cloudformation: Any, stack_id: str, token: str) -> ResourceFailure | None:
    """What failed first in the update with this token; the rest of its failures are consequences.

    Events come newest first, and all events of one update carry its token ("StackEvent", CloudFormation API Reference).
    """
    first, seen = None, False
    with _waits(stack_id):
        for page in cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack_id):
            for event in page["StackEvents"]:
                ours = event.get("ClientRequestToken") == token
                if seen and not ours:
                    return first
                seen = seen or ours
                if ours and event["ResourceStatus"].endswith("_FAILED"):
                    first = ResourceFailure(
                        event["ResourceType"], event["ResourceStatus"], event.get("ResourceStatusReason", "")
                    )
    return first


def last_failed_release(cloudformation: Any, stack: ServingStack) -> tuple[int, datetime] | None:
    """Which version the update was to release that CloudFormation has undone last, and when that ended; None if none."""
    if stack.status != "UPDATE_ROLLBACK_COMPLETE":
        return None
    with _waits(stack.name):
        newest = cloudformation.describe_stack_events(StackName=stack.name)["StackEvents"][0]
    version = released_version(newest.get("ClientRequestToken", ""))
    return (version, newest["Timestamp"]) if version else None


def release_token(version: int, event_id: str) -> str:
    """The token of the update that releases a version: the stack's own events tell it back (`released_version`)."""
    return f"release-{version}-{event_id}"


def released_version(token: str) -> int | None:
    """The version that the update with this token was to release; None if it was no release."""
    found = re.match(r"release-(\d+)-", token)
    return int(found[1]) if found else None


@contextmanager
def _waits(name: str) -> Iterator[None]:
    """Tell what passes by itself, and a stack that is not there, from errors."""
    try:
        yield
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        if code in THROTTLED or "_IN_PROGRESS state and can not be updated" in message:
            raise StackBusyError(f"{name}: {message}") from error
        if "does not exist" in message:
            raise StackMissingError(f"{name} does not exist") from error
        raise
