"""Events that must be handled one at a time, in order, until it works."""

import math
from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from stacks.dead_letters import DeadLetters
from stacks.permissions import allow


class OrderedEvents(Construct):
    """EventBridge → FIFO queue → function (Task 3.3: deployment; Task 3.2: event-driven integration).

    EventBridge alone would call the function at once, twice when it repeats an event, and give up after two retries;
    a rollout lasts longer. The queue drops what comes twice within five minutes, keeps later events behind one that has
    to wait (one message group), and asks again until twice `longest_wait_seconds` have passed. What then is left, and
    what EventBridge could not deliver, stays in dead-letter queues.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        pattern: Mapping[str, Any],
        function: lambda_.Function,
        longest_wait_seconds: int,
        key: kms.IKey,
    ) -> None:
        super().__init__(scope, id)
        # Six times the function's own, as "Creating and configuring an Amazon SQS queue" (Lambda) asks for.
        assert function.timeout  # noqa: S101 - PythonFunction always sets one
        visible_again = 6 * int(function.timeout.to_seconds())
        given_up = sqs.Queue(
            self,
            "GivenUp",
            fifo=True,
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=key,
            enforce_ssl=True,
            retention_period=cdk.Duration.days(14),
        )
        self.queue = sqs.Queue(
            self,
            "Queue",
            fifo=True,
            content_based_deduplication=True,
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=key,
            enforce_ssl=True,
            retention_period=cdk.Duration.days(14),
            visibility_timeout=cdk.Duration.seconds(visible_again),
            dead_letter_queue=sqs.DeadLetterQueue(
                queue=given_up, max_receive_count=math.ceil(2 * longest_wait_seconds / visible_again)
            ),
        )
        self._undelivered = DeadLetters(self, "Undelivered", key=key)
        self.dead_letters = (given_up, self._undelivered)
        self._accept_from(events.CfnRule(self, "Rule", event_pattern=pattern, targets=self._targets()))
        # All Lambda needs ("Configuring an Amazon SQS queue to trigger an AWS Lambda function"); the L2 grants more.
        assert function.role  # noqa: S101 - PythonFunction always sets one
        reads = ["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
        allow(function.role, reads, [self.queue.queue_arn])
        key.grant_decrypt(function.role)
        function.add_event_source_mapping(
            f"{id}Mapping",
            event_source_arn=self.queue.queue_arn,
            batch_size=1,
            report_batch_item_failures=True,
        )

    def every_hour(self) -> None:
        """Put a "Scheduled Event" among the others once an hour, for what no event tells."""
        self._accept_from(
            events.CfnRule(self, "Hourly", schedule_expression="rate(1 hour)", targets=self._targets())
        )

    def _targets(self) -> list[events.CfnRule.TargetProperty]:
        return [
            events.CfnRule.TargetProperty(
                id="Queue",
                arn=self.queue.queue_arn,
                sqs_parameters=events.CfnRule.SqsParametersProperty(message_group_id="serving"),
                dead_letter_config=events.CfnRule.DeadLetterConfigProperty(arn=self._undelivered.queue_arn),
            )
        ]

    def _accept_from(self, rule: events.CfnRule) -> None:
        self._undelivered.accept_from(rule)
        self.queue.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("events.amazonaws.com")],
                actions=["sqs:SendMessage"],
                resources=[self.queue.queue_arn],
                conditions={"ArnEquals": {"aws:SourceArn": rule.attr_arn}},
            )
        )
