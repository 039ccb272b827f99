"""What becomes of state when its stack goes."""

import aws_cdk as cdk

from stacks.config import FoundationConfig


def removal_policy(settings: FoundationConfig) -> cdk.RemovalPolicy:
    """Kept where the stage retains data, else removed: `sandbox` leaves nothing behind.

    What a failed creation made is removed in both: it is empty, and its name would stand in the next attempt's way.
    """
    return cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if settings.retain_data else cdk.RemovalPolicy.DESTROY
