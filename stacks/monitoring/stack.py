"""Monitoring: topic, failure rules, alarms, dashboard, budget."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from stacks.base import BaseStack
from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.ingestion.stack import Ingestion
from stacks.monitoring.alarms import Alarms, watches
from stacks.monitoring.budget import MonthlyBudget
from stacks.monitoring.dashboard import FlowDashboard
from stacks.monitoring.failures import FailureRules, failures
from stacks.monitoring.metrics import Metrics
from stacks.monitoring.topic import AlertTopic
from stacks.processing.stack import Processing


class Monitoring(BaseStack):
    """It watches all the other stacks, and none knows it: it can be deployed last, or replaced by another."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: Config,
        foundation: Foundation,
        ingestion: Ingestion,
        processing: Processing,
        dead_letters: Sequence[sqs.IQueue],
    ) -> None:
        super().__init__(scope, id, config=config, description="Who is told of failures, delays and costs")
        self.topic = AlertTopic(self, "Topic", settings=config.monitoring, key=foundation.key)
        table = failures(
            self, config=config, foundation=foundation, ingestion=ingestion, processing=processing
        )
        rules = FailureRules(self, "Failures", table=table, topic=self.topic, key=foundation.key)
        metrics = Metrics(config=config, ingestion=ingestion, processing=processing)
        waiting = [metrics.dead_letters(queue) for queue in (*dead_letters, rules.dead_letters)]
        Alarms(
            self,
            "Alarms",
            table=watches(config, metrics=metrics, dead_letters=waiting),
            topic=self.topic,
        )
        FlowDashboard(self, "Dashboard", config=config, metrics=metrics)
        MonthlyBudget(self, "Budget", config=config, topic=self.topic)
        cdk.CfnOutput(self, "TopicArn", value=self.topic.topic_arn, description="Subscribe here to be told")
