"""The result of every approval, as an event of our own."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam

from stacks.config import Config
from stacks.permissions import allow

DETAIL_TYPE = "Rollout Result"


def result_source(config: Config) -> str:
    """The `source` of the events; EventBridge keeps those that begin with "aws." to itself."""
    return f"{config.prefix}.release"


def may_tell(role: iam.IRole, config: Config) -> None:
    """Let `role` put this one kind of event on the account's default bus, and no other (Task 4.3: least privilege)."""
    bus = cdk.Stack.of(role).format_arn(service="events", resource="event-bus", resource_name="default")
    said = {"events:source": result_source(config), "events:detail-type": DETAIL_TYPE}
    allow(role, ["events:PutEvents"], [bus], conditions={"StringEquals": said})
