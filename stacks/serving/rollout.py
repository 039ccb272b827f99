"""How a new model takes over: configuration → SageMaker's DeploymentConfig."""

from collections.abc import Sequence

from aws_cdk import aws_sagemaker as sagemaker

from stacks.config import AllAtOnceConfig, CanaryConfig, LinearConfig, ServingConfig

_Endpoint = sagemaker.CfnEndpoint


def deployment_config(
    settings: ServingConfig, alarm_names: Sequence[str]
) -> sagemaker.CfnEndpoint.DeploymentConfigProperty:
    """Blue/green with the stage's way of shifting traffic; any of `alarm_names` (at most 10) rolls it back.

    The whole new fleet is started before traffic moves, so a rollout needs twice the instances in the account's quota.
    Source: "DeploymentConfig" (SageMaker API Reference). Seconds and percents are the API's own.
    """
    return _Endpoint.DeploymentConfigProperty(
        blue_green_update_policy=_Endpoint.BlueGreenUpdatePolicyProperty(
            traffic_routing_configuration=_routing(settings.rollout),
            termination_wait_in_seconds=settings.termination_wait_seconds,
            maximum_execution_timeout_in_seconds=settings.timeout_seconds,
        ),
        auto_rollback_configuration=_Endpoint.AutoRollbackConfigProperty(
            alarms=[_Endpoint.AlarmProperty(alarm_name=name) for name in alarm_names]
        ),
    )


def _routing(
    rollout: CanaryConfig | LinearConfig | AllAtOnceConfig,
) -> sagemaker.CfnEndpoint.TrafficRoutingConfigProperty:
    canary = _percent(rollout.canary_percent) if isinstance(rollout, CanaryConfig) else None
    step = _percent(rollout.step_percent) if isinstance(rollout, LinearConfig) else None
    return _Endpoint.TrafficRoutingConfigProperty(
        type=rollout.strategy,
        canary_size=canary,
        linear_step_size=step,
        wait_interval_in_seconds=rollout.wait_seconds,
    )


def _percent(value: int) -> sagemaker.CfnEndpoint.CapacitySizeProperty:
    return _Endpoint.CapacitySizeProperty(type="CAPACITY_PERCENT", value=value)
