"""The one way to accept a cdk-nag finding: named exactly, with a reason a reviewer would accept."""

import aws_cdk as cdk
from constructs import IConstruct


def acknowledge(construct: IConstruct, rule: str, reason: str) -> None:
    """Accept `rule` (such as "IAM5[Action::s3:GetObject*]") on `construct` and everything below it."""
    finding = cdk.Acknowledgment(id=f"AwsSolutions::AwsSolutions-{rule}", reason=reason)
    cdk.Validations.of(construct).acknowledge(finding)
