"""As many instances as the queue needs, and for an empty one the fewest that a stage wants: none, or some."""

import aws_cdk as cdk
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from stacks.option_config import AsynchronousConfig

_Policy = scaling.CfnScalingPolicy
_BACKLOG = "ApproximateBacklogSizePerInstance"


class BacklogScaling(Construct):
    """Target tracking on the backlog, and a step out of zero (Task 3.2: scaling; Task 4.2: cost).

    With no instance, target tracking alone would begin only once more requests wait than its target; one that waits
    alone would wait for ever: an alarm on HasBacklogWithoutCapacity adds the first instance. Where one always runs
    there is nothing to start, and no such alarm. Metrics of the queue carry the endpoint's name as their only
    dimension. Source, with the alarm's numbers: "Autoscale an asynchronous endpoint".
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint_name: str,
        variant_name: str,
        settings: AsynchronousConfig,
        condition: cdk.CfnCondition,
    ) -> None:
        super().__init__(scope, id)
        target = scaling.CfnScalableTarget(
            self,
            "Target",
            service_namespace="sagemaker",
            scalable_dimension="sagemaker:variant:DesiredInstanceCount",
            resource_id=f"endpoint/{endpoint_name}/variant/{variant_name}",
            min_capacity=settings.minimum_instances,
            max_capacity=settings.maximum_instances,
        )
        dimension = _Policy.MetricDimensionProperty(name="EndpointName", value=endpoint_name)
        backlog = _Policy(
            self,
            "Backlog",
            policy_name="backlog-per-instance",
            policy_type="TargetTrackingScaling",
            scaling_target_id=target.ref,
            target_tracking_scaling_policy_configuration=_Policy.TargetTrackingScalingPolicyConfigurationProperty(
                customized_metric_specification=_Policy.CustomizedMetricSpecificationProperty(
                    namespace="AWS/SageMaker",
                    metric_name=_BACKLOG,
                    dimensions=[dimension],
                    statistic="Average",
                ),
                target_value=settings.backlog_per_instance,
                scale_in_cooldown=settings.scale_in_cooldown_seconds,
                scale_out_cooldown=settings.scale_out_cooldown_seconds,
            ),
        )
        resources: list[cdk.CfnResource] = [target, backlog]
        if not settings.minimum_instances:
            resources += self._from_zero(target, endpoint_name, settings.scale_out_cooldown_seconds)
        for resource in resources:
            resource.cfn_options.condition = condition

    def _from_zero(
        self, target: scaling.CfnScalableTarget, endpoint_name: str, cooldown: int
    ) -> tuple[cdk.CfnResource, cdk.CfnResource]:
        """The step that adds the first instance, and the alarm that takes it."""
        first = _Policy(
            self,
            "FromZero",
            policy_name="from-zero",
            policy_type="StepScaling",
            scaling_target_id=target.ref,
            step_scaling_policy_configuration=_Policy.StepScalingPolicyConfigurationProperty(
                adjustment_type="ChangeInCapacity",
                metric_aggregation_type="Average",
                cooldown=cooldown,
                step_adjustments=[
                    _Policy.StepAdjustmentProperty(metric_interval_lower_bound=0, scaling_adjustment=1)
                ],
            ),
        )
        waiting = cloudwatch.CfnAlarm(
            self,
            "Waiting",
            alarm_description="Requests wait and no instance runs: the first one is started",
            namespace="AWS/SageMaker",
            metric_name="HasBacklogWithoutCapacity",
            dimensions=[cloudwatch.CfnAlarm.DimensionProperty(name="EndpointName", value=endpoint_name)],
            statistic="Average",
            period=60,
            evaluation_periods=2,
            datapoints_to_alarm=2,
            threshold=1,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="missing",
            alarm_actions=[first.ref],
        )
        return first, waiting
