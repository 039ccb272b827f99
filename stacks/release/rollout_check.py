"""After a rollout: is what the stack believes in service really in service."""

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.release.ordered_events import OrderedEvents
from stacks.release.release_function import ReleaseFunction

# The service name under which lambdas/check_rollout.py counts, and what it counts.
SERVICE, METRIC = "check-rollout", "RolloutDifference"


class RolloutCheck(Construct):
    """Every completion of Serving's stack is checked, and a difference raises an alarm (Tasks 3.3 and 4.2).

    SageMaker rolls back by itself and CloudFormation may not notice; only the endpoint itself can tell.
    """

    def __init__(self, scope: Construct, id: str, *, config: Config, foundation: Foundation) -> None:
        super().__init__(scope, id)
        check = ReleaseFunction(self, "Check", service=SERVICE, config=config, foundation=foundation)
        check.may_describe("endpoint", config.endpoint_name, "DescribeEndpoint")
        for kind, action in (("endpoint-config", "DescribeEndpointConfig"), ("model", "DescribeModel")):
            check.may_describe(kind, "*", action, because="CloudFormation names them; the action only reads.")
        self.events = OrderedEvents(
            self,
            "Events",
            pattern={
                "source": ["aws.cloudformation"],
                "detail-type": ["CloudFormation Stack Status Change"],
                "detail": {
                    "stack-id": [{"prefix": check.serving_stack}],
                    "status-details": {
                        "status": ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"]
                    },
                },
            },
            function=check.function,
            longest_wait_seconds=config.serving.rollout.timeout_seconds,
            key=foundation.key,
        )
        self.alarm = cloudwatch.Alarm(
            self,
            "Difference",
            alarm_description="The endpoint does not run what its stack believes; the parameter was put back",
            metric=cloudwatch.Metric(
                namespace=config.prefix,
                metric_name=METRIC,
                dimensions_map={"service": SERVICE},
                statistic="Sum",
                period=cdk.Duration.minutes(5),
            ),
            threshold=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            evaluation_periods=1,
            # Published only when a rollout has been checked.
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
