"""An upload starts the workflow."""

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_glue as glue
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.dead_letters import DeadLetters
from stacks.permissions import allow


class UploadRule(Construct):
    """A file under batch/ is an event, and the event starts the workflow (Tasks 1.1 and 3.3: batch ingestion).

    L1 rule: the L2 has no target for a Glue workflow. It is disabled together with the workflow's EVENT trigger:
    `start_on_upload` in cdk.json switches both.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        enabled: bool,
        raw: s3.IBucket,
        workflow: glue.IWorkflow,
        key: kms.IKey,
    ) -> None:
        super().__init__(scope, id)
        role = iam.Role(
            self,
            "Role",
            description="Tells the workflow of an upload",
            assumed_by=iam.ServicePrincipal(
                "events.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": cdk.Stack.of(self).account}},
            ),
        )
        allow(role, ["glue:NotifyEvent"], [workflow.workflow_arn])
        self.dead_letters = DeadLetters(self, "DeadLetters", key=key)
        rule = events.CfnRule(
            self,
            "Rule",
            description="Uploads under batch/ start the Glue workflow",
            state="ENABLED" if enabled else "DISABLED",
            event_pattern={
                "source": ["aws.s3"],
                "detail-type": ["Object Created"],
                "detail": {
                    "bucket": {"name": [raw.bucket_name]},
                    "object": {"key": [{"prefix": "batch/"}]},
                },
            },
            targets=[
                events.CfnRule.TargetProperty(
                    id="Workflow",
                    arn=workflow.workflow_arn,
                    role_arn=role.role_arn,
                    dead_letter_config=events.CfnRule.DeadLetterConfigProperty(
                        arn=self.dead_letters.queue_arn
                    ),
                )
            ],
        )
        rule.node.add_dependency(role)
        self.dead_letters.accept_from(rule)
        self.rule_name = rule.ref
