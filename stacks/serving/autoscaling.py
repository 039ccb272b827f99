"""As many instances as the traffic needs."""

import aws_cdk as cdk
from aws_cdk import aws_applicationautoscaling as scaling
from constructs import Construct

from stacks.serving_config import ServingConfig

_Policy, _Target = scaling.CfnScalingPolicy, scaling.CfnScalableTarget


class Autoscaling(Construct):
    """Target tracking on invocations per instance, and other limits by the clock (Task 3.2: scaling; Task 4.2: cost).

    Invocations and not CPU: they are the load itself, the same for every instance type, and predefined for a variant.
    Application Auto Scaling acts with its service-linked role, which it makes on first use. While a variant is
    registered here, AWS refuses an update that changes its instance type ("Update endpoints that use auto scaling"):
    deploy that with the model parameter empty.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint_name: str,
        variant_name: str,
        settings: ServingConfig,
        condition: cdk.CfnCondition,
    ) -> None:
        super().__init__(scope, id)
        target = _Target(
            self,
            "Target",
            service_namespace="sagemaker",
            scalable_dimension="sagemaker:variant:DesiredInstanceCount",
            resource_id=f"endpoint/{endpoint_name}/variant/{variant_name}",
            min_capacity=settings.instance_count,
            max_capacity=settings.autoscaling.maximum_instances,
            scheduled_actions=[
                _Target.ScheduledActionProperty(
                    scheduled_action_name=action.name,
                    schedule=action.schedule,
                    scalable_target_action=_Target.ScalableTargetActionProperty(
                        min_capacity=action.minimum, max_capacity=action.maximum
                    ),
                )
                for action in settings.autoscaling.scheduled
            ]
            or None,
        )
        policy = _Policy(
            self,
            "Policy",
            policy_name="invocations-per-instance",
            policy_type="TargetTrackingScaling",
            scaling_target_id=target.ref,
            target_tracking_scaling_policy_configuration=_Policy.TargetTrackingScalingPolicyConfigurationProperty(
                predefined_metric_specification=_Policy.PredefinedMetricSpecificationProperty(
                    predefined_metric_type="SageMakerVariantInvocationsPerInstance"
                ),
                target_value=settings.autoscaling.invocations_per_instance,
                scale_in_cooldown=settings.autoscaling.scale_in_cooldown_seconds,
                scale_out_cooldown=settings.autoscaling.scale_out_cooldown_seconds,
            ),
        )
        for resource in (target, policy):
            resource.cfn_options.condition = condition
