"""What starts the pipeline without a person: new curated data, and the calendar."""

from typing import Literal

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from stacks.dead_letters import DeadLetters
from stacks.permissions import allow
from stacks.training.pipeline import Pipeline
from stacks.training_config import TrainingConfig


class Starts(Construct):
    """Retrain when the table has changed, or when enough time has passed (Tasks 3.3 and 4.1: retraining).

    Both are off unless cdk.json switches them on: a pipeline that starts by itself costs money by itself. What could
    not start stays in a dead-letter queue. L1 on both: EventBridge has no L2 target for a pipeline, and Scheduler's
    takes an L2 pipeline, which does not exist.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: TrainingConfig,
        pipeline: Pipeline,
        curated_crawler_name: str,
        key: kms.IKey,
    ) -> None:
        super().__init__(scope, id)
        self._pipeline = pipeline
        self.dead_letters = DeadLetters(self, "DeadLetters", key=key)
        self.rule = self._on_curated(curated_crawler_name, enabled=settings.start_on_curated)
        self._on_schedule(settings.schedule, enabled=settings.schedule_enabled, key=key)

    def _on_curated(self, crawler_name: str, *, enabled: bool) -> events.CfnRule:
        role = self._role("RuleRole", "events")
        rule = events.CfnRule(
            self,
            "Rule",
            description="New curated data start the pipeline",
            state="ENABLED" if enabled else "DISABLED",
            event_pattern={
                "source": ["aws.glue"],
                "detail-type": ["Glue Crawler State Change"],
                "detail": {"crawlerName": [crawler_name], "state": ["Succeeded"]},
            },
            targets=[
                events.CfnRule.TargetProperty(
                    id="Pipeline",
                    arn=self._pipeline.arn,
                    role_arn=role.role_arn,
                    # The parameters' defaults are the stage's own.
                    sage_maker_pipeline_parameters=events.CfnRule.SageMakerPipelineParametersProperty(
                        pipeline_parameter_list=[]
                    ),
                    dead_letter_config=events.CfnRule.DeadLetterConfigProperty(
                        arn=self.dead_letters.queue_arn
                    ),
                )
            ],
        )
        rule.node.add_dependency(role, self._pipeline.pipeline)
        self.dead_letters.accept_from(rule)
        return rule

    def _on_schedule(self, expression: str, *, enabled: bool, key: kms.IKey) -> None:
        role = self._role("ScheduleRole", "scheduler")
        # Unlike EventBridge's rules, Scheduler sends to the queue with the schedule's role.
        allow(role, ["sqs:SendMessage"], [self.dead_letters.queue_arn])
        key.grant(role, "kms:Decrypt", "kms:GenerateDataKey")
        schedule = scheduler.CfnSchedule(
            self,
            "Schedule",
            description="Retrains from time to time",
            schedule_expression=expression,
            state="ENABLED" if enabled else "DISABLED",
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=self._pipeline.arn,
                role_arn=role.role_arn,
                sage_maker_pipeline_parameters=scheduler.CfnSchedule.SageMakerPipelineParametersProperty(
                    pipeline_parameter_list=[]
                ),
                dead_letter_config=scheduler.CfnSchedule.DeadLetterConfigProperty(
                    arn=self.dead_letters.queue_arn
                ),
            ),
        )
        schedule.node.add_dependency(role, self._pipeline.pipeline)

    def _role(self, id: str, service: Literal["events", "scheduler"]) -> iam.Role:
        role = iam.Role(
            self,
            id,
            description="Starts the pipeline",
            assumed_by=iam.ServicePrincipal(
                f"{service}.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": cdk.Stack.of(self).account}},
            ),
        )
        allow(role, ["sagemaker:StartPipelineExecution"], [self._pipeline.arn])
        return role
