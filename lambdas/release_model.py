"""An approved model version → an update of the Serving stack: CloudFormation does the rollout (Tasks 3.3 and 2.3).

Approval events may come twice, late or in the wrong order, and are also sent when somebody edits a description. So the
event only says where to look: what is approved now, and what is in service now, decide. A newer version replaces an
older one, never the reverse, unless the newer one has been rejected since: that is the way back.
"""

import json
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.data_classes import SQSEvent
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.exceptions import ClientError

from lambdas import clients, serving_stack, settings

APPROVED = "Approved"

logger = Logger()
metrics = Metrics()


@dataclass(frozen=True)
class Settings:
    """What is released where, and with whose permissions."""

    serving_stack_name: str
    serving_update_role_arn: str
    model_package_group_name: str


@dataclass(frozen=True)
class PackageChange:
    """A "SageMaker Model Package State Change" event; `updated` is empty when the package is new."""

    event_id: str
    arn: str
    group: str
    status: str
    updated: tuple[str, ...]

    @classmethod
    def parse(cls, event: dict[str, Any]) -> "PackageChange":
        """Read the EventBridge event; a package without a group has no version, and is none of ours."""
        detail = event["detail"]
        return cls(
            event_id=event["id"],
            arn=detail["ModelPackageArn"],
            group=detail.get("ModelPackageGroupName", ""),
            status=detail.get("ModelApprovalStatus", ""),
            updated=tuple(detail.get("UpdatedModelPackageFields") or ()),
        )


def irrelevant(change: PackageChange, group: str) -> str | None:
    """Why the event is no approval of ours, or None."""
    if change.group != group:
        return "another model package group"
    if change.status != APPROVED:
        return "not an approval"
    if change.updated and "ModelApprovalStatus" not in change.updated:
        return "only metadata changed"
    return None


def superseded(package: str, package_status: str, in_service: str, in_service_status: str) -> str | None:
    """Why the approved package must not be released after all, or None. Statuses are as of now."""
    if package_status != APPROVED:
        return "no longer approved"
    if package == in_service:
        return "already in service"
    group, version = package.rsplit("/", 1)
    service_group, _, service_version = in_service.rpartition("/")
    older = group == service_group and int(version) < int(service_version)
    if older and in_service_status == APPROVED:
        return "older than the version in service, which is still approved"
    return None


def approval(sagemaker: Any, package: str) -> str:
    """The approval status of a model package now; empty if there is no such package (any more)."""
    if not package:
        return ""
    try:
        status: str = sagemaker.describe_model_package(ModelPackageName=package)["ModelApprovalStatus"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationException":
            return ""
        raise
    return status


def release(event: dict[str, Any], to: Settings, *, cloudformation: Any, sagemaker: Any) -> str | None:
    """Release what the event approves; return why not, or None. Raises `StackBusyError` during a rollout."""
    change = PackageChange.parse(event)
    if reason := irrelevant(change, to.model_package_group_name):
        return reason
    stack = serving_stack.read(cloudformation, to.serving_stack_name)
    if stack.busy:
        # What is in service is being decided right now.
        raise serving_stack.StackBusyError(f"{stack.name} is in {stack.status}")
    in_service = stack.model_package
    if reason := superseded(
        change.arn, approval(sagemaker, change.arn), in_service, approval(sagemaker, in_service)
    ):
        return reason
    serving_stack.serve(
        cloudformation,
        stack,
        model_package=change.arn,
        role=to.serving_update_role_arn,
        token=change.event_id,
    )
    return None


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Lambda's entry point for the queue of approvals: FIFO, one message a batch."""
    to = settings.read(Settings)
    (message,) = SQSEvent(event).records
    try:
        reason = release(
            json.loads(message.body),
            to,
            cloudformation=clients.client("cloudformation"),
            sagemaker=clients.client("sagemaker"),
        )
    except serving_stack.StackBusyError as busy:
        # Not an error of the function: the queue asks again, and keeps later approvals behind this one.
        logger.info("a rollout is running, trying again later", extra={"reason": str(busy)})
        metrics.add_metric(name="ReleasesPostponed", unit=MetricUnit.Count, value=1)
        return {"batchItemFailures": [{"itemIdentifier": message.message_id}]}
    logger.info("nothing to release" if reason else "rollout started", extra={"reason": reason})
    metrics.add_metric(name="ReleasesStarted", unit=MetricUnit.Count, value=0 if reason else 1)
    return {"batchItemFailures": []}
