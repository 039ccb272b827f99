"""How a new model takes over: configuration → SageMaker's DeploymentConfig."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker

from stacks.rollout_config import AllAtOnce, Canary, Linear, Rolling, Rollout, Size

_Endpoint = sagemaker.CfnEndpoint
_UNITS = {"PERCENT": "CAPACITY_PERCENT", "INSTANCES": "INSTANCE_COUNT"}


def deployment_config(
    rollout: Rollout, alarm_names: Sequence[str], *, guarded: cdk.CfnCondition | None = None
) -> sagemaker.CfnEndpoint.DeploymentConfigProperty:
    """The stage's way of shifting traffic; any of `alarm_names` (1 to 10) rolls it back, while `guarded` holds.

    Blue/green starts the whole new fleet before traffic moves, so it needs twice the instances in the account's quota;
    rolling needs one batch more. Source: "DeploymentConfig" (SageMaker API Reference).
    """
    return _Endpoint.DeploymentConfigProperty(
        rolling_update_policy=_rolling(rollout) if isinstance(rollout, Rolling) else None,
        blue_green_update_policy=None if isinstance(rollout, Rolling) else _blue_green(rollout),
        auto_rollback_configuration=_rollback(alarm_names, guarded),
    )


def _rollback(
    alarm_names: Sequence[str], guarded: cdk.CfnCondition | None
) -> sagemaker.CfnEndpoint.AutoRollbackConfigProperty | cdk.IResolvable:
    if guarded is None:
        alarms = [_Endpoint.AlarmProperty(alarm_name=name) for name in alarm_names]
        return _Endpoint.AutoRollbackConfigProperty(alarms=alarms)
    # A condition's branches are no L1 structs: CloudFormation's own names.
    named = {"Alarms": [{"AlarmName": name} for name in alarm_names]}
    return cdk.Fn.condition_if(guarded.logical_id, named, cdk.Aws.NO_VALUE)


def _blue_green(
    rollout: Canary | Linear | AllAtOnce,
) -> sagemaker.CfnEndpoint.BlueGreenUpdatePolicyProperty:
    # All at once bakes once. The API demands an interval, and the guide's example ("Use all at once traffic shifting")
    # sets the termination wait alone: both with one value, whichever of them SageMaker takes for the bake.
    interval = rollout.termination_wait_seconds if isinstance(rollout, AllAtOnce) else rollout.bake_seconds
    return _Endpoint.BlueGreenUpdatePolicyProperty(
        traffic_routing_configuration=_Endpoint.TrafficRoutingConfigProperty(
            type=rollout.strategy,
            canary_size=_size(rollout.canary) if isinstance(rollout, Canary) else None,
            linear_step_size=_size(rollout.step) if isinstance(rollout, Linear) else None,
            wait_interval_in_seconds=interval,
        ),
        termination_wait_in_seconds=rollout.termination_wait_seconds,
        maximum_execution_timeout_in_seconds=rollout.timeout_seconds,
    )


def _rolling(rollout: Rolling) -> sagemaker.CfnEndpoint.RollingUpdatePolicyProperty:
    # Without a size for the way back, the whole old fleet comes back at once.
    back = rollout.rollback_batch
    return _Endpoint.RollingUpdatePolicyProperty(
        maximum_batch_size=_size(rollout.batch),
        rollback_maximum_batch_size=_size(back) if back else None,
        wait_interval_in_seconds=rollout.bake_seconds,
        maximum_execution_timeout_in_seconds=rollout.timeout_seconds,
    )


def _size(size: Size) -> sagemaker.CfnEndpoint.CapacitySizeProperty:
    return _Endpoint.CapacitySizeProperty(type=_UNITS[size.unit], value=size.value)
