"""EventBridge hears of every change of a stack's status, as it does on AWS."""

from __future__ import annotations

from collections.abc import Callable

from local.cloud import events, seams
from local.cloud.extensions import Cloud

Record = Callable[..., None]


def install(_cloud: Cloud) -> None:
    """Tell EventBridge wherever MiniStack records a stack event."""
    for module in (seams.stacks, seams.stack_handlers, seams.changesets):
        seams.replace(module, "_add_event", _telling)


def _telling(original: Record) -> Record:
    def record(
        stack_id: str,
        stack_name: str,
        logical_id: str,
        resource_type: str,
        status: str,
        reason: str = "",
        *more: str,
        **named: str,
    ) -> None:
        original(stack_id, stack_name, logical_id, resource_type, status, reason, *more, **named)
        if resource_type == "AWS::CloudFormation::Stack" and logical_id == stack_name:
            detail = {
                "stack-id": stack_id,
                "status-details": {"status": status, "status-reason": reason},
                "client-request-token": seams.stacks.CLIENT_REQUEST_TOKEN.get() or "",
            }
            events.emit("aws.cloudformation", "CloudFormation Stack Status Change", detail, [stack_id])

    return record
