"""A stack that is being updated, or goes back to what it was, cannot be deleted: MiniStack would do both at once.

AWS refuses the call in these words and does not change the stack. A stack that is still being created can be deleted.
"""

from __future__ import annotations

from local.cloud import seams
from local.cloud.extensions import Cloud
from local.cloud.stack_roles import Action, Parameters


def install(_cloud: Cloud) -> None:
    """Wrap the action."""
    actions = seams.stack_handlers._ACTION_HANDLERS
    actions["DeleteStack"] = _refusing(actions["DeleteStack"])


def _refusing(original: Action) -> Action:
    def act(parameters: Parameters) -> tuple[int, dict[str, str], bytes]:
        stack = seams.stack_handlers._resolve_stack(parameters.get("StackName", [""])[0]) or {}
        status: str = stack.get("StackStatus", "")
        if status.startswith("UPDATE_") and status.endswith("_IN_PROGRESS"):
            message = f"Stack [{stack['StackId']}] cannot be deleted while in status {status}"
            refused: tuple[int, dict[str, str], bytes] = seams.stack_helpers._error(
                "ValidationError", message
            )
            return refused
        return original(parameters)

    return act
