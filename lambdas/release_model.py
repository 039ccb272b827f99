"""Approvals and rejections → an update of the Serving stack: CloudFormation does the rollout (Tasks 3.3 and 2.3).

Events may come twice, late or in the wrong order, and are also sent when somebody edits a description. So an event only
says when to look. What should serve is the newest version that is approved and has not failed since; it takes the place
of an older one, or of one that has been rejected or deleted, never of a newer one that nobody has rejected.

An approval is tried once, so it waits for what would spoil the try: an update or scaling that runs, a stack that is to be put
right, a rollback alarm that rings. The queue gives up after some hours, and an alarm may ring for longer: the hourly look
finds what was told to wait. The alarms watch the endpoint, so a bad version in service rings them, too, and would bring
itself back: what takes the place of a withdrawn version is therefore released without them.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.data_classes import SQSEvent
from aws_lambda_powertools.utilities.typing import LambdaContext

from lambdas import clients, difference, registry, rollout_result, serving_stack, settings
from lambdas.difference import AlarmsRingError, UnsettledError
from lambdas.registry import Version
from lambdas.rollout_result import Result
from lambdas.serving_stack import ServingStack, StackBusyError

CHANGE = "SageMaker Model Package State Change"
# What `make release ARGS=--none` puts into the queue.
SERVE_NOTHING = "Serve Nothing"
METRIC = "ServingUnapproved"
NO_REPLACEMENT = (
    "nothing approved takes its place. Approve another version, or serve nothing: make release ARGS=--none"
)

logger = Logger()
metrics = Metrics()


@dataclass(frozen=True)
class Settings:
    """What is released where, with whose permissions, and under which source the results are told."""

    serving_stack_name: str
    endpoint_name: str
    serving_update_role_arn: str
    model_package_group_name: str
    result_source: str


class Aws(NamedTuple):
    """The clients, by service."""

    cloudformation: Any
    sagemaker: Any
    events: Any
    cloudwatch: Any


@dataclass(frozen=True)
class Trigger:
    """An event that says when to look: a change in the registry, the hourly check, or the order to serve nothing.

    `updated` is empty when the package is new; the fields of a package are empty where the event is about none.
    """

    id: str
    time: str
    kind: str
    package: str
    group: str
    status: str
    updated: tuple[str, ...]

    @classmethod
    def parse(cls, event: dict[str, Any]) -> "Trigger":
        """Read the event; a package without a group has no version, and is none of ours."""
        detail = event["detail"]
        return cls(
            id=event["id"],
            time=event["time"],
            kind=event["detail-type"],
            package=detail.get("ModelPackageArn", ""),
            group=detail.get("ModelPackageGroupName", ""),
            status=detail.get("ModelApprovalStatus", ""),
            updated=tuple(detail.get("UpdatedModelPackageFields") or ()),
        )


def irrelevant(trigger: Trigger, group: str) -> str | None:
    """Why the event cannot change what should serve, or None."""
    if trigger.kind != CHANGE:
        return None
    if trigger.group != group:
        return "another model package group"
    if trigger.status not in {registry.APPROVED, registry.REJECTED}:
        return "neither an approval nor a rejection"
    if trigger.updated and "ModelApprovalStatus" not in trigger.updated:
        return "only metadata changed"
    return None


def release(event: dict[str, Any], to: Settings, aws: Aws) -> str | None:
    """Release what should serve; return why nothing is released, or None.

    Raises `StackBusyError` or `UnsettledError` while an update would be refused, or taken back for nothing.
    """
    trigger = Trigger.parse(event)
    if reason := irrelevant(trigger, to.model_package_group_name):
        return reason
    try:
        stack = serving_stack.read(aws.cloudformation, to.serving_stack_name)
    except serving_stack.StackMissingError as missing:
        reason = f"{missing}. Deploy it, then: make release"
        if trigger.status == registry.APPROVED:
            nothing = Result(trigger.package, registry.NOT_RELEASED, reason, "", "", trigger.time)
            rollout_result.tell(nothing, source=to.result_source, events=aws.events)
        return reason
    if stack.busy:
        # What is in service is being decided right now.
        raise StackBusyError(f"{stack.name} is in {stack.status}")
    if trigger.kind == SERVE_NOTHING:
        _serve(stack, "", token=f"empty-{trigger.id}", to=to, aws=aws)
        return None
    package = registry.find(aws.sagemaker, trigger.package)
    failed = serving_stack.last_failed_release(aws.cloudformation, stack)
    _wait_for_its_result(package, failed)
    if package and trigger.status == registry.REJECTED:
        _end_failed_try(package, trigger, aws)
    serving = registry.find(aws.sagemaker, stack.model_package)
    withdrawn = registry.withdrawn(stack.model_package, serving)
    hourly = trigger.kind != CHANGE
    # A rejection of what is approved now came late: perhaps after the approval's own event, which found a failed try.
    looks = withdrawn or bool(package and package.status == registry.APPROVED)
    named = [package.arn] if package else []
    wanted = None
    if looks or hourly:
        wanted = registry.wanted(aws.sagemaker, to.model_package_group_name, named=named)
    looks = looks or (hourly and _waits(stack, serving, wanted))
    _wait_for_its_result(wanted if looks else None, failed)
    if hourly:
        metrics.add_metric(name=METRIC, unit=MetricUnit.Count, value=int(withdrawn and not wanted))
    if not looks:
        return "not approved now, and what serves has not been withdrawn"
    return _replace(stack, serving, wanted, trigger, to, aws)


def _replace(
    stack: ServingStack,
    serving: Version | None,
    wanted: Version | None,
    trigger: Trigger,
    to: Settings,
    aws: Aws,
) -> str | None:
    """Release `wanted` in place of `serving`, unless it is superseded or has to wait."""
    reason = registry.superseded(wanted, stack.model_package, serving)
    withdrawn = registry.withdrawn(stack.model_package, serving)
    differs = difference.find(aws.sagemaker, stack, to.endpoint_name)
    if reason and not withdrawn and differs and differs.of_versions:
        # Compared with what the stack is told next, `wanted` may be the newer one.
        raise UnsettledError(f"{stack.name} believes in another version than runs, and is put right first")
    ringing: list[str] = []
    if wanted and not reason:
        try:
            ringing = difference.ringing(aws.cloudwatch, stack, withdrawn=withdrawn)
        except AlarmsRingError as error:
            _tell_waiting(stack, wanted, error.names, trigger, to, aws)
            if trigger.kind != CHANGE:
                return str(error)  # the next hour looks again, and no decision queues behind this look
            raise
    # Told first: once the update runs, another version serves, and nobody would look back.
    _tell(stack, serving, wanted, ringing, trigger, to, aws)
    if wanted and not reason:
        token = serving_stack.release_token(wanted.number, trigger.id)
        _serve(stack, wanted.arn, token=token, to=to, aws=aws, guarded=not ringing)
    return reason


def _waits(stack: ServingStack, serving: Version | None, wanted: Version | None) -> bool:
    """Whether `wanted` was told that it waits for an alarm: the queue may have given its approval up since.

    Not beside a stack that serves nothing, which a person may have emptied.
    """
    if wanted is None or wanted.result != registry.WAITING or not stack.model_package:
        return False
    return registry.superseded(wanted, stack.model_package, serving) is None


def _wait_for_its_result(version: Version | None, failed: tuple[int, datetime] | None) -> None:
    """`UnsettledError` while the check has not written that the version's last try failed: it would be tried again."""
    if version and failed and version.number == failed[0]:
        # An end's event and CloudFormation's own record of it may differ by a moment.
        ended = failed[1] - timedelta(seconds=5)
        if not version.at or datetime.fromisoformat(version.at) < ended:
            raise UnsettledError(f"what became of version {version.number} has not been written yet")


def _serve(
    stack: ServingStack, model_package: str, *, token: str, to: Settings, aws: Aws, guarded: bool = True
) -> None:
    serving_stack.serve(
        aws.cloudformation,
        stack,
        model_package=model_package,
        role=to.serving_update_role_arn,
        token=token,
        guarded=guarded,
    )


def _end_failed_try(version: Version, trigger: Trigger, aws: Aws) -> None:
    """A rejection ends a failed try, so that a later approval starts another; not one from before the failure."""
    since = version.status == registry.REJECTED or trigger.time >= version.at
    if version.result in registry.FAILED and since:
        reason = f"rejected after it was {version.result}"
        ended = Result(version.arn, registry.WITHDRAWN, reason, "", "", version.after(trigger.time))
        rollout_result.write(ended, sagemaker=aws.sagemaker)


def _tell_waiting(
    stack: ServingStack, wanted: Version, ringing: list[str], trigger: Trigger, to: Settings, aws: Aws
) -> None:
    """Say once why an approved version is not released yet."""
    if wanted.result == registry.WAITING:
        return
    at = wanted.after(trigger.time)
    said = rollout_result.waiting(wanted, ringing, stack.model_package, stack.status, at)
    rollout_result.report(said, source=to.result_source, events=aws.events, sagemaker=aws.sagemaker)


def _tell(
    stack: ServingStack,
    serving: Version | None,
    wanted: Version | None,
    ringing: list[str],
    trigger: Trigger,
    to: Settings,
    aws: Aws,
) -> None:
    """Say once that what serves was withdrawn, and what follows; or that it is approved again."""
    known = serving is not None and serving.result == registry.WITHDRAWN
    if registry.withdrawn(stack.model_package, serving) == known:
        return
    if known:
        word, reason = registry.IN_SERVICE, "approved again, and in service all the time"
    elif serving or wanted:
        follows = f"version {wanted.number} takes its place" if wanted else NO_REPLACEMENT
        if ringing:
            follows += f", without rollback alarms: {', '.join(ringing)} rings already"
        word = registry.WITHDRAWN
        reason = f"{'rejected' if serving else 'deleted'} while in service: {follows}"
    else:
        # Nothing is left to write on that this was told: the alarm on `METRIC` tells it, once.
        logger.error("what serves has been deleted", extra={"model_package": stack.model_package})
        return
    _report(stack, serving, word, reason, trigger, to, aws)


def _report(
    stack: ServingStack,
    serving: Version | None,
    word: str,
    reason: str,
    trigger: Trigger,
    to: Settings,
    aws: Aws,
) -> None:
    # A rejection may have waited for the rollout of what it rejects: then it comes after that rollout's end.
    at = serving.after(trigger.time) if serving else trigger.time
    result = Result(stack.model_package, word, reason, stack.model_package, stack.status, at)
    rollout_result.report(result, source=to.result_source, events=aws.events, sagemaker=aws.sagemaker)


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Lambda's entry point for the queue of approvals: FIFO, one message a batch."""
    to = settings.read(Settings)
    (message,) = SQSEvent(event).records
    aws = Aws(*(clients.client(service) for service in Aws._fields))
    try:
        reason = release(json.loads(message.body), to, aws)
    except (StackBusyError, UnsettledError) as wait:
        # Not an error of the function: the queue asks again, and keeps later approvals behind this one.
        logger.info("not the moment to release, trying again later", extra={"reason": str(wait)})
        metrics.add_metric(name="ReleasesPostponed", unit=MetricUnit.Count, value=1)
        return {"batchItemFailures": [{"itemIdentifier": message.message_id}]}
    logger.info("nothing to release" if reason else "rollout started", extra={"reason": reason})
    metrics.add_metric(name="ReleasesStarted", unit=MetricUnit.Count, value=0 if reason else 1)
    return {"batchItemFailures": []}
