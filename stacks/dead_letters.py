"""Where a start that failed waits to be looked at."""

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from stacks.acknowledge import acknowledge


class DeadLetters(sqs.Queue):
    """Events that EventBridge could not deliver, for the longest time SQS keeps a message (Task 3.3: orchestration).

    EventBridge retries for a day and then drops the event: without this queue a run that never started leaves no
    trace. Encrypted with our key, TLS only (Task 4.3).
    """

    def __init__(self, scope: Construct, id: str, *, key: kms.IKey) -> None:
        super().__init__(
            scope,
            id,
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=key,
            enforce_ssl=True,
            retention_period=cdk.Duration.days(14),
        )
        acknowledge(
            self, "SQS3", "This is a dead-letter queue; the rule sees that only beside a source queue."
        )

    def accept_from(self, rule: events.CfnRule) -> None:
        """Let EventBridge put here what it cannot deliver for `rule`, and for no other rule."""
        self.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("events.amazonaws.com")],
                actions=["sqs:SendMessage"],
                resources=[self.queue_arn],
                conditions={"ArnEquals": {"aws:SourceArn": rule.attr_arn}},
            )
        )
