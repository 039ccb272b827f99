"""Approvals and rejections → an update of the Serving stack: CloudFormation does the rollout (Tasks 3.3 and 2.3).

Events may come twice, late or in the wrong order, and are also sent when somebody edits a description. So an event only
says when to look. What should serve is the newest version that is approved and has not failed since; it takes the place
of an older one, or of one that has been rejected or deleted, never of a newer one that nobody has rejected.
"""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.data_classes import SQSEvent
from aws_lambda_powertools.utilities.typing import LambdaContext

from lambdas import clients, registry, rollout_result, serving_stack, settings
from lambdas.registry import Version
from lambdas.rollout_result import Result

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
    serving_update_role_arn: str
    model_package_group_name: str
    result_source: str


class Aws(NamedTuple):
    """The clients, by service."""

    cloudformation: Any
    sagemaker: Any
    events: Any


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
    """Release what should serve; return why nothing is released, or None. Raises `StackBusyError` during a rollout."""
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
        raise serving_stack.StackBusyError(f"{stack.name} is in {stack.status}")
    if trigger.kind == SERVE_NOTHING:
        _serve(stack, "", token=f"empty-{trigger.id}", to=to, aws=aws)
        return None
    package = registry.find(aws.sagemaker, trigger.package)
    if package and trigger.status == registry.REJECTED:
        _end_failed_try(package, trigger, aws)
    serving = registry.find(aws.sagemaker, stack.model_package)
    withdrawn = _withdrawn(stack, serving)
    # A rejection of what is approved now came late: perhaps after the approval's own event, which found a failed try.
    looks = withdrawn or bool(package and package.status == registry.APPROVED)
    named = [package.arn] if package else []
    wanted = registry.wanted(aws.sagemaker, to.model_package_group_name, named=named) if looks else None
    if trigger.kind != CHANGE:
        metrics.add_metric(name=METRIC, unit=MetricUnit.Count, value=int(withdrawn and not wanted))
    if not looks:
        return "not approved now, and what serves has not been withdrawn"
    reason = registry.superseded(wanted, stack.model_package, serving)
    # Told first: once the update runs, another version serves, and nobody would look back.
    _tell(stack, serving, wanted, trigger, to, aws)
    if not reason and wanted:
        token = serving_stack.release_token(wanted.number, trigger.id)
        _serve(stack, wanted.arn, token=token, to=to, aws=aws)
    return reason


def _serve(
    stack: serving_stack.ServingStack, model_package: str, *, token: str, to: Settings, aws: Aws
) -> None:
    serving_stack.serve(
        aws.cloudformation, stack, model_package=model_package, role=to.serving_update_role_arn, token=token
    )


def _end_failed_try(version: Version, trigger: Trigger, aws: Aws) -> None:
    """A rejection ends a failed try, so that a later approval starts another; not one from before the failure."""
    since = version.status == registry.REJECTED or trigger.time >= version.at
    if version.result in registry.FAILED and since:
        reason = f"rejected after it was {version.result}"
        ended = Result(version.arn, registry.WITHDRAWN, reason, "", "", version.after(trigger.time))
        rollout_result.write(ended, sagemaker=aws.sagemaker)


def _withdrawn(stack: serving_stack.ServingStack, serving: Version | None) -> bool:
    """Whether what the stack serves has been rejected or deleted."""
    return bool(stack.model_package) and (serving is None or serving.status == registry.REJECTED)


def _tell(
    stack: serving_stack.ServingStack,
    serving: Version | None,
    wanted: Version | None,
    trigger: Trigger,
    to: Settings,
    aws: Aws,
) -> None:
    """Say once that what serves was withdrawn, and what follows; or that it is approved again."""
    known = serving is not None and serving.result == registry.WITHDRAWN
    if _withdrawn(stack, serving) == known:
        return
    if known:
        word, reason = registry.IN_SERVICE, "approved again, and in service all the time"
    elif serving or wanted:
        follows = f"version {wanted.number} takes its place" if wanted else NO_REPLACEMENT
        word = registry.WITHDRAWN
        reason = f"{'rejected' if serving else 'deleted'} while in service: {follows}"
    else:
        # Nothing is left to write on that this was told: the alarm on `METRIC` tells it, once.
        logger.error("what serves has been deleted", extra={"model_package": stack.model_package})
        return
    _report(stack, serving, word, reason, trigger, to, aws)


def _report(
    stack: serving_stack.ServingStack,
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
    except serving_stack.StackBusyError as busy:
        # Not an error of the function: the queue asks again, and keeps later approvals behind this one.
        logger.info("a rollout is running, trying again later", extra={"reason": str(busy)})
        metrics.add_metric(name="ReleasesPostponed", unit=MetricUnit.Count, value=1)
        return {"batchItemFailures": [{"itemIdentifier": message.message_id}]}
    logger.info("nothing to release" if reason else "rollout started", extra={"reason": reason})
    metrics.add_metric(name="ReleasesStarted", unit=MetricUnit.Count, value=0 if reason else 1)
    return {"batchItemFailures": []}
