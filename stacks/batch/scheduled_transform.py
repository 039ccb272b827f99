"""A transform job by the clock, started by EventBridge Scheduler itself."""

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from stacks.config import Config
from stacks.dead_letters import DeadLetters
from stacks.foundation.stack import Foundation

_Schedule = scheduler.CfnSchedule
_EXECUTION = "<aws.scheduler.execution-id>"  # "Adding context attributes", EventBridge Scheduler User Guide


class ScheduledTransform(Construct):
    """CreateTransformJob as a universal target: no function in between (Tasks 3.1 and 3.3: batch, scheduling).

    CloudFormation knows no transform job, because a job is no lasting thing. Scheduler calls the API with the input
    below, and puts its execution's id into the job's name: each run has its own, and a repeated call is refused
    instead of run twice. What cannot be started waits in the dead-letter queue.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: Config,
        foundation: Foundation,
        model: sagemaker.CfnModel,
        condition: cdk.CfnCondition,
    ) -> None:
        super().__init__(scope, id)
        role = foundation.transform_role
        assert role  # noqa: S101 - Foundation makes it where options list batch, and only then is this here
        self.dead_letters = DeadLetters(self, "DeadLetters", key=foundation.key)
        # The schedule's role sends, and Foundation cannot name a queue of a later stack: the queue admits the role.
        self.dead_letters.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ArnPrincipal(role.role_arn)],
                actions=["sqs:SendMessage"],
                resources=[self.dead_letters.queue_arn],
            )
        )
        request = transform_request(
            config, bucket=foundation.curated, key=foundation.key, model=model.attr_model_name
        )
        schedule = _Schedule(
            self,
            "Schedule",
            description="Predicts what lies under the input prefix",
            schedule_expression=config.batch.schedule,
            state="ENABLED" if config.batch.schedule_enabled else "DISABLED",
            flexible_time_window=_Schedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=_Schedule.TargetProperty(
                arn=f"arn:{cdk.Aws.PARTITION}:scheduler:::aws-sdk:sagemaker:createTransformJob",
                role_arn=role.role_arn,
                input=cdk.Stack.of(self).to_json_string(request),
                dead_letter_config=_Schedule.DeadLetterConfigProperty(arn=self.dead_letters.queue_arn),
            ),
        )
        schedule.cfn_options.condition = condition


def transform_request(config: Config, *, bucket: s3.IBucket, key: kms.IKey, model: str) -> dict[str, Any]:
    """The job as "CreateTransformJob" (SageMaker API Reference) takes it: lines of CSV, one prediction each.

    Both sides are lines: to join CSV with its predictions, `SplitType` and `AssembleWith` have to be `Line` ("Associate
    Prediction Results with Input Records").
    """
    settings = config.batch
    csv = "text/csv"
    return {
        "TransformJobName": f"{config.prefix}-{_EXECUTION}",
        "ModelName": model,
        "BatchStrategy": settings.strategy,
        "MaxConcurrentTransforms": settings.max_concurrent_transforms,
        "MaxPayloadInMB": settings.max_payload_mb,
        # A record has at least a byte: the payload alone is the limit (pipeline/inference.py would refuse more records).
        "Environment": {"MAX_RECORDS": str(settings.max_payload_mb * 1024**2)},
        "TransformInput": {
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": bucket.s3_url_for_object(settings.input_prefix),
                }
            },
            "ContentType": csv,
            "SplitType": "Line",
        },
        "TransformOutput": {
            "S3OutputPath": bucket.s3_url_for_object(settings.output_prefix),
            "Accept": csv,
            "AssembleWith": "Line",
            "KmsKeyId": key.key_arn,
        },
        "TransformResources": {
            "InstanceType": settings.instance_type,
            "InstanceCount": settings.instance_count,
            "VolumeKmsKeyId": key.key_arn,
        },
        "DataProcessing": {
            "InputFilter": settings.input_filter,
            "JoinSource": settings.join_source,
            "OutputFilter": settings.output_filter,
        },
        # CDK tags what CloudFormation makes; the budget counts what carries the deployment's tag.
        "Tags": [
            {"Key": name, "Value": value}
            for name, value in sorted([*config.tags.items(), config.deployment_tag])
        ],
    }
