"""An alarm on what a release function counts."""

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from stacks.config import Config


class CountedAlarm(cloudwatch.Alarm):
    """It goes off at the first count in `every` (Task 4.2); `keeps` its state until the next count, or is quiet.

    The functions count when they run, so most periods have no data.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: Config,
        service: str,
        metric: str,
        every: cdk.Duration,
        keeps: bool,
        meaning: str,
    ) -> None:
        treat = cloudwatch.TreatMissingData
        super().__init__(
            scope,
            id,
            alarm_description=meaning,
            metric=cloudwatch.Metric(
                namespace=config.prefix,
                metric_name=metric,
                dimensions_map={"service": service},
                statistic="Sum",
                period=every,
            ),
            threshold=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            evaluation_periods=1,
            treat_missing_data=treat.IGNORE if keeps else treat.NOT_BREACHING,
        )
