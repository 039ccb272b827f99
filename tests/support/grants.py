"""What a role of a synthesized stack is allowed, as plain pairs."""

from collections.abc import Iterator

from tests.support import iam
from tools.assembly import Assembly


def statements(assembly: Assembly, stack: str, role: str) -> Iterator[iam.Statement]:
    """The statements of the role whose construct path below the stack, without slashes, is `role`."""
    found = [
        statement
        for statement in iam.statements(assembly, assembly.template(stack))
        if statement.kind == "identity" and statement.resource.startswith(f"{role}DefaultPolicy")
    ]
    assert found, f"{stack} has no policy of {role}"
    yield from found


def resources(assembly: Assembly, stack: str, role: str, action: str) -> set[str]:
    """What the role may do `action` on, with sample names for what AWS generates."""
    return {
        resource
        for statement in statements(assembly, stack, role)
        if action in statement.actions
        for resource in statement.resources
    }


def keys(assembly: Assembly, stack: str, role: str, action: str) -> set[str]:
    """The S3 keys of `resources`: `arn:aws:s3:::bucket/flights/*` is `flights/*`."""
    found = resources(assembly, stack, role, action)
    return {name.split("/", 1)[1] for name in found if name.startswith("arn:aws:s3:::")}
