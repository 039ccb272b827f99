"""What becomes of state when its stack goes."""

import aws_cdk as cdk

from stacks.config import FoundationConfig


def removal_policy(settings: FoundationConfig) -> cdk.RemovalPolicy:
    """Kept where the stage retains data, else removed: `sandbox` leaves nothing behind."""
    return cdk.RemovalPolicy.RETAIN if settings.retain_data else cdk.RemovalPolicy.DESTROY
