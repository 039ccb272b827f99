"""The deployed stage, and what a person does there: register, approve, look."""

from __future__ import annotations

import dataclasses

from lambdas import registry, serving_stack
from local.demo.account import Account
from local.rollout import models

# The image is not pulled here; the serving stack names the same repository.
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0"
# The rollback alarms, as the picture calls them.
ALARMS = ERRORS, LATENCY, QUALITY = "Errors", "Latency", "Quality"


@dataclasses.dataclass(frozen=True)
class Stage:
    """Its endpoint, its bucket for models, and `alarms`, the rollback alarms' short names by their own."""

    account: Account
    prefix: str
    endpoint: str
    bucket: str
    alarms: dict[str, str]

    @classmethod
    def of(cls, account: Account, prefix: str) -> Stage:
        """Look it up in the stacks of this prefix."""
        ids = _physical(account, f"{prefix}-serving", "AWS::CloudWatch::Alarm")
        alarms = {
            physical: name
            for logical, physical in ids.items()
            for name in ALARMS
            if logical.startswith(f"Alarms{name}")
        }
        buckets = _physical(account, f"{prefix}-foundation", "AWS::S3::Bucket")
        (artifacts,) = [name for logical, name in buckets.items() if logical.startswith("Artifacts")]
        return cls(account, prefix, account.output(f"{prefix}-serving", "EndpointName"), artifacts, alarms)

    @property
    def stack(self) -> str:
        """The stack that an approval updates."""
        return f"{self.prefix}-serving"

    def register(self, version: models.Version) -> str:
        """Upload the archive and register it, pending; the ARN of its package."""
        key = f"pipeline/Train/{version.name}/model.tar.gz"
        self.account.client("s3").upload_file(str(version.archive), self.bucket, key)
        container = {
            "Image": IMAGE,
            "ModelDataUrl": f"s3://{self.bucket}/{key}",
            "Environment": dict(version.environment),
        }
        arn: str = self.account.client("sagemaker").create_model_package(
            ModelPackageGroupName=self.prefix,
            ModelApprovalStatus="PendingManualApproval",
            InferenceSpecification={
                "Containers": [container],
                "SupportedContentTypes": ["application/json"],
                "SupportedResponseMIMETypes": ["application/json"],
            },
        )["ModelPackageArn"]
        return arn

    def approve(self, package: str) -> None:
        """What a person does."""
        self.account.client("sagemaker").update_model_package(
            ModelPackageArn=package, ModelApprovalStatus="Approved"
        )

    def result(self, package: str) -> registry.Version | None:
        """What the release functions have written beside the version, once they have."""
        version = registry.find(self.account.client("sagemaker"), package)
        return version if version and version.result else None

    def serving(self) -> serving_stack.ServingStack:
        """The Serving stack as it is now."""
        return serving_stack.read(self.account.client("cloudformation"), self.stack)

    def repairs(self) -> int:
        """How often the check after a rollout has put the stack right so far."""
        pages = (
            self.account.client("cloudformation")
            .get_paginator("describe_stack_events")
            .paginate(StackName=self.stack)
        )
        tokens = {event.get("ClientRequestToken", "") for page in pages for event in page["StackEvents"]}
        return sum(token.startswith("repair-") for token in tokens)


def _physical(account: Account, stack: str, kind: str) -> dict[str, str]:
    """Physical ids by logical id of a stack's resources of one type."""
    pages = account.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack)
    return {
        item["LogicalResourceId"]: item["PhysicalResourceId"]
        for page in pages
        for item in page["StackResourceSummaries"]
        if item["ResourceType"] == kind
    }
