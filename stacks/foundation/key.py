"""One customer-managed key for all data at rest."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from stacks.config import Config
from stacks.removal_policy import removal_policy


class DataKey(kms.Key):
    """Who may decrypt is decided in one policy, not bucket by bucket (Task 4.3: encryption, KMS).

    Roles of this account get access through their own IAM policies: the key policy delegates to IAM. It names a
    service only where the service calls KMS in its own name, and only for this app's log groups, topics and queues.
    Sources: "Encrypt log data in CloudWatch Logs using AWS KMS"; "Enable compatibility between event sources
    from AWS services and encrypted topics" (Amazon SNS Developer Guide).
    """

    def __init__(self, scope: Construct, id: str, *, config: Config) -> None:
        settings = config.foundation
        super().__init__(
            scope,
            id,
            description=f"Data at rest of {config.prefix}",
            enable_key_rotation=True,
            pending_window=cdk.Duration.days(settings.key_pending_window_days),
            removal_policy=removal_policy(settings),
        )
        # CloudWatch Logs, for the groups that CloudFormation, Lambda and Glue name in this app.
        groups = (f"{config.prefix}-*", f"/aws/*/{config.prefix}-*", "/aws-glue/*")
        self._admit(
            f"logs.{cdk.Aws.REGION}.amazonaws.com",
            "kms:Encrypt",
            "kms:Decrypt",
            "kms:ReEncrypt*",
            "kms:GenerateDataKey*",
            "kms:DescribeKey",
            context="kms:EncryptionContext:aws:logs:arn",
            arns=[self._arn("logs", "log-group", group) for group in groups],
        )
        # What sends to the encrypted topic and queues. SNS and SQS put the ARN into the encryption context whoever
        # sends; "Adding the aws:SourceAccount and aws:SourceArn to a AWS KMS policy is not supported for
        # EventBridge-to-encrypted topics" (Amazon SNS Developer Guide).
        for service, target in (
            ("cloudwatch", "sns:topicArn"),
            ("budgets", "sns:topicArn"),
            ("events", "sns:topicArn"),
            ("events", "sqs:arn"),
        ):
            self._admit(
                f"{service}.amazonaws.com",
                "kms:Decrypt",
                "kms:GenerateDataKey*",
                context=f"kms:EncryptionContext:aws:{target}",
                arns=[self._arn(target.split(":")[0], f"{config.prefix}-*")],
            )

    def _arn(self, service: str, resource: str, name: str | None = None) -> str:
        return cdk.Stack.of(self).format_arn(
            service=service,
            resource=resource,
            resource_name=name,
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME if name else cdk.ArnFormat.NO_RESOURCE_NAME,
        )

    def _admit(self, service: str, *actions: str, context: str, arns: list[str]) -> None:
        self.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(service)],
                actions=list(actions),
                resources=["*"],  # in a key policy, "*" is this key
                conditions={"ArnLike": {context: arns}},
            )
        )
