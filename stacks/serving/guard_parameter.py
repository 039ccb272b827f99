"""Whether alarms guard the next rollout: decided at run time, like the version that it brings."""

import aws_cdk as cdk
from constructs import Construct

ON, OFF = "on", "off"


class GuardParameter(cdk.CfnParameter):
    """The parameter `RollbackAlarms` (Task 3.1: rollback).

    The alarms watch the endpoint, which during a rollout is both fleets. While a bad version makes them ring, they would
    take back whatever comes to replace it: the release that replaces a withdrawn version then says "off", and the next
    one "on" again (lambdas/release_model.py).
    """

    label = "Rollback alarms"

    def __init__(self, scope: Construct) -> None:
        super().__init__(
            scope,
            "RollbackAlarms",
            default=ON,
            allowed_values=[ON, OFF],
            description="Whether the alarms may take the next rollout back; off only while what serves makes them ring",
        )
        self.on = cdk.CfnCondition(
            scope, "HasRollbackAlarms", expression=cdk.Fn.condition_equals(self.value_as_string, ON)
        )
