"""CloudFormation types that MiniStack lacks: one `register` a type.

CloudFormation calls a type with resolved properties. Each call runs on a thread of its own, so it may wait; what it
raises fails the resource with that text, and the stack rolls back. `update` must leave the old state when it raises.
Ref is the physical id that `create` returns; GetAtt knows only what `attributes` returns. An `update` that returns another
physical id has made a new resource, and CloudFormation deletes the old one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import parse_qs

from local.cloud import roles, seams
from local.cloud.extensions import Cloud
from local.cloud.place import Place

Properties = dict[str, Any]


class PropertiesError(Exception):
    """A template has properties that its type does not take, or lacks one that it needs."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What CloudFormation asks: for which resource of which stack, and the properties it shall have."""

    stack: str
    logical_id: str
    properties: Properties

    def name(self, given: str | None = None, *, limit: int = 63) -> str:
        """The property `given`, or a name as CloudFormation generates it: another one after a replacement."""
        if given and given in self.properties:
            return str(self.properties[given])
        if not seams.provisioners._NAME_SEED.get():
            # MiniStack keeps it with the resource; without it a stack made anew would take the names of the one before,
            # and what that one left behind would be in its way.
            seams.provisioners._NAME_SEED.set(uuid.uuid4().hex[:8])
        generated: str = seams.provisioners._physical_name(self.stack, self.logical_id, max_len=limit)
        return generated

    @property
    def role_arn(self) -> str | None:
        """The role with which CloudFormation acts for this stack, if it was given one."""
        role: str | None = seams.stack(self.stack).get("RoleARN")
        return role

    def client(self, service: str) -> Any:
        """A client that acts as CloudFormation does: with the stack's role, else (here) as the root user."""
        return _client(service, self.role_arn)

    def authorize(self, action: str, resource: str) -> None:
        """Raise unless the stack's role may do this; without a role CloudFormation acts as the root user here."""
        if self.role_arn:
            _session(self.role_arn).authorize(action, resource)


Create = Callable[[Request], str]
Update = Callable[[str, Request, Properties], object]
Delete = Callable[[str, Request], object]
Attributes = Callable[[str, Properties], Mapping[str, Any]]
Reader = Callable[[str, Properties], Properties | None]

# DescribeStacks waits up to five seconds for a stack's operation to end: a client that finds it unfinished sleeps for
# 5 s (the CDK CLI) or 30 s (the SDK's waiters).
_LOOKS, _LOOK_SECONDS = 250, 0.02

_place: list[Place] = []
_threaded: set[str] = set()
_stacks: dict[tuple[str, str], tuple[str, str]] = {}


def _no_attributes(_physical_id: str, _properties: Properties) -> Mapping[str, Any]:
    return {}


def register(  # noqa: PLR0913 - each is one fact about the type
    resource_type: str,
    *,
    create: Create,
    delete: Delete,
    update: Update | None = None,
    attributes: Attributes = _no_attributes,
    required: Sequence[str] = (),
    optional: Sequence[str] = (),
    replacing: Sequence[str] = (),
    tags: tuple[str, Literal["list", "map"]] | None = None,
) -> None:
    """Teach CloudFormation a type.

    `replacing` names the properties whose change makes a new resource, `tags` the property that takes the stack's tags
    and its form. A type without `update` has only replacing properties. `required` and `optional` name the others: where
    one of the two is given, a property that is missing or that nobody names fails the resource.
    """
    allowed = {*required, *optional, *replacing, *(tags or ())[:1]}

    def check(logical_id: str, properties: Properties) -> None:
        wrong = [f"#: required key [{name}] not found" for name in required if name not in properties]
        if required or optional:
            extra = sorted(properties.keys() - allowed)
            wrong += [f"#: extraneous key [{name}] is not permitted in the embedded cloud" for name in extra]
        if wrong:
            raise PropertiesError(
                f"Properties validation failed for resource {logical_id} with message: {'; '.join(wrong)}"
            )

    def make(logical_id: str, properties: Properties, stack: str) -> tuple[str, dict[str, Any]]:
        check(logical_id, properties)
        physical_id = create(Request(stack, logical_id, properties))
        _stacks[resource_type, physical_id] = stack, logical_id
        return physical_id, dict(attributes(physical_id, properties))

    def change(
        physical_id: str, old: Properties, new: Properties, stack: str, logical_id: str
    ) -> tuple[str, dict[str, Any]]:
        check(logical_id, new)
        if update is not None:
            made = update(physical_id, Request(stack, logical_id, new), old)
            if isinstance(made, str):
                physical_id = made
                _stacks[resource_type, physical_id] = stack, logical_id
        return physical_id, dict(attributes(physical_id, new))

    def remove(physical_id: str, properties: Properties) -> None:
        delete(physical_id, Request(*_stacks.pop((resource_type, physical_id), ("", "")), properties))

    seams.provisioners._RESOURCE_HANDLERS[resource_type] = {
        "create": make,
        "update": change,
        "update_with_logical_id": True,
        "delete": remove,
    }
    seams.provisioners._REPLACING_PROPERTIES[resource_type] = tuple(replacing)
    if tags:
        seams.provisioners._STACK_TAG_PROPERTY[resource_type] = tags
    _threaded.add(resource_type)


def extend(resource_type: str, mend: Callable[[Request, str, Properties], None]) -> None:
    """Let `mend(request, physical_id, old_properties)` follow each create and update of a type that MiniStack has."""
    handler = seams.provisioners._RESOURCE_HANDLERS[resource_type]

    def make(logical_id: str, properties: Properties, stack: str) -> tuple[str, dict[str, Any]]:
        physical_id, attributes = handler["create"](logical_id, properties, stack)
        try:
            mend(Request(stack, logical_id, properties), physical_id, {})
        except Exception:
            handler["delete"](physical_id, properties)  # CloudFormation does not know it yet
            raise
        return physical_id, attributes

    def change(
        physical_id: str, old: Properties, new: Properties, stack: str, logical_id: str
    ) -> tuple[str, dict[str, Any]]:
        also = (logical_id,) if handler.get("update_with_logical_id") else ()
        new_id, attributes = handler["update"](physical_id, old, new, stack, *also)
        mend(Request(stack, logical_id, new), new_id, old if new_id == physical_id else {})
        return new_id, attributes

    seams.provisioners._RESOURCE_HANDLERS[resource_type] = {
        **handler,
        "create": make,
        "update": change,
        "update_with_logical_id": True,
    }
    _threaded.add(resource_type)


def install(cloud: Cloud) -> None:
    """Run our types on threads: CloudFormation runs its own on the event loop, where nothing may wait.

    So an operation is no longer over when the next request is read; who asks about its stack waits for it a while.
    """
    _place[:] = [cloud.place]
    seams.replace(seams.cloudformation, "handle_request", _waiting)
    seams.replace(
        seams.stacks,
        "_runs_on_worker_thread",
        lambda original: lambda resource_type: resource_type in _threaded or original(resource_type),
    )


def _waiting(original: seams.Handler) -> seams.Handler:
    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
    ) -> Any:
        asked = query | parse_qs(body.decode(errors="replace"))
        if asked.get("Action") == ["DescribeStacks"] and "StackName" in asked:
            for _ in range(_LOOKS):
                if not _in_progress(asked["StackName"][0]):
                    break
                await asyncio.sleep(_LOOK_SECONDS)
        return await original(method, path, headers, body, query)

    return handle


def _in_progress(stack: str) -> bool:
    status: str = (seams.stack_handlers._resolve_stack(stack) or {}).get("StackStatus", "")
    return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"


@functools.cache
def _session(role_arn: str) -> roles.Session:
    return roles.assume(role_arn, "cloudformation", "AWSCloudFormation")


@functools.cache
def _client(service: str, role_arn: str | None) -> Any:
    if role_arn:
        return _session(role_arn).client(service, _place[0])
    return _place[0].client(service)
