"""Every private name of MiniStack that we touch, in one place; tests/local/cloud/test_seams.py holds MiniStack to them.

Most are registries that we add to. Where MiniStack has none, a function is replaced: `replace` says so, and keeps the
original for the replacement to call.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from ministack import app
from ministack.core import concurrency, iam_actions, iam_evaluator, lambda_runtime, responses, router
from ministack.services import (
    cloudformation,
    cloudwatch,
    cloudwatch_logs,
    ec2,
    eventbridge,
    firehose,
    glue,
    iam,
    kinesis,
    kms,
    lambda_svc,
    s3,
    scheduler,
    sns,
    sqs,
    sts,
    tagging,
)
from ministack.services.cloudformation import changesets, drift, provisioners, stacks
from ministack.services.cloudformation import handlers as stack_handlers
from ministack.services.cloudformation import helpers as stack_helpers

__all__ = [
    "app",
    "changesets",
    "cloudformation",
    "cloudwatch",
    "cloudwatch_logs",
    "concurrency",
    "drift",
    "ec2",
    "eventbridge",
    "firehose",
    "glue",
    "iam",
    "iam_actions",
    "iam_evaluator",
    "kinesis",
    "kms",
    "lambda_runtime",
    "lambda_svc",
    "provisioners",
    "replace",
    "responses",
    "router",
    "s3",
    "scheduler",
    "service",
    "sns",
    "sqs",
    "stack",
    "stack_handlers",
    "stack_helpers",
    "stacks",
    "sts",
    "tagging",
]

Handler = Callable[[str, str, dict[str, str], bytes, dict[str, list[str]]], Any]


def replace(
    module: ModuleType, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    """Replace `module.name` by `wrapper(original)`; `AttributeError` if MiniStack has no such function any more."""
    setattr(module, name, wrapper(getattr(module, name)))


def service(name: str, target_prefix: str, handler: Handler) -> None:
    """Register a JSON service: requests whose X-Amz-Target begins with the prefix, or that are signed for `name`."""
    app.SERVICE_REGISTRY[name] = {"module": name}
    app.SERVICE_HANDLERS[name] = handler
    router.SERVICE_PATTERNS[name] = {"target_prefixes": [target_prefix], "host_patterns": []}


def stack(name: str) -> dict[str, Any]:
    """CloudFormation's record of a stack; empty if there is none of that name."""
    found: dict[str, Any] = cloudformation._stacks.get(name, {})
    return found
