"""The role of a stack: it must trust CloudFormation, which keeps it for later operations; DescribeStacks tells it.

Our types act with it (`resources.Request`); MiniStack's own types act without IAM.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus

from local.cloud import roles, seams
from local.cloud.extensions import Cloud

_TAKES_ROLE = ("CreateStack", "UpdateStack", "DeleteStack", "CreateChangeSet")

Parameters = dict[str, list[str]]
Action = Callable[[Parameters], tuple[int, dict[str, str], bytes]]


def install(_cloud: Cloud) -> None:
    """Wrap the actions that take a role and the one that shows it."""
    actions = seams.stack_handlers._ACTION_HANDLERS
    for name in _TAKES_ROLE:
        actions[name] = _keeping(actions[name])
    actions["DescribeStacks"] = _showing(actions["DescribeStacks"])


def _keeping(original: Action) -> Action:
    def act(parameters: Parameters) -> tuple[int, dict[str, str], bytes]:
        role = parameters.get("RoleARN", [""])[0]
        try:
            if role:
                roles.check_trust(role, "cloudformation")
        except roles.AccessDeniedError:
            refused: tuple[int, dict[str, str], bytes] = seams.stack_helpers._error(
                "ValidationError", f"Role {role} is invalid or cannot be assumed"
            )
            return refused
        answer = original(parameters)
        stack = seams.stack_handlers._resolve_stack(parameters.get("StackName", [""])[0])
        if role and stack and answer[0] == HTTPStatus.OK:
            stack["RoleARN"] = role  # later operations that name no role use it
        return answer

    return act


def _showing(original: Action) -> Action:
    def act(parameters: Parameters) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = original(parameters)
        return status, headers, re.sub(rb"<StackId>([^<]*)</StackId>", _with_role, body)

    return act


def _with_role(found: re.Match[bytes]) -> bytes:
    role = (seams.stack_handlers._resolve_stack(found[1].decode()) or {}).get("RoleARN")
    return found[0] + (f"<RoleARN>{role}</RoleARN>".encode() if role else b"")
