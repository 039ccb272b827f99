"""The one way to accept a finding of cdk-nag, or of CDK's validator: named exactly, with a reason for a reviewer."""

import aws_cdk as cdk
from constructs import IConstruct

NAG, VALIDATOR = "AwsSolutions::AwsSolutions-", "CloudFormation-Validate::"


def acknowledge(construct: IConstruct, rule: str, reason: str, *, of: str = NAG) -> None:
    """Accept `rule` (such as "IAM5[Action::s3:GetObject*]") on `construct` and everything below it."""
    finding = cdk.Acknowledgment(id=f"{of}{rule}", reason=reason)
    cdk.Validations.of(construct).acknowledge(finding)
