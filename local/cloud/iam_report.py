"""What each role of the deployed stacks may do, what it did, and what no run has shown (`make iam-report`).

Runs in `.venv-cloud` beside a running cloud. The record is replayed in memory against the role's policies with one
permission taken away: if nothing would be denied, the permission is unseen. An unseen one is superfluous, unless it
stands in the table of docs/embedded-cloud.md with the document of AWS that requires it.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3

from local.cloud import decisions, lifecycle
from local.cloud.decisions import Decision, Permission, Policies
from local.cloud.place import ACCOUNT, REGION, ROOT
from local.cloud.server import settings

TABLE = ROOT / "docs" / "embedded-cloud.md"
_SECTION = "### Permissions that no run here shows"


@dataclasses.dataclass(frozen=True)
class Role:
    """A role of a deployed stack, with its policies as IAM has them."""

    stack: str
    logical_id: str
    name: str
    policies: Policies

    @property
    def idea(self) -> str:
        """The logical id without the hash that CDK appends."""
        return re.sub(r"[0-9A-F]{8}$", "", self.logical_id)


@dataclasses.dataclass(frozen=True)
class Excuse:
    """A row of the table: which permissions of which roles no run here can show, and which document requires them."""

    actions: tuple[str, ...]
    roles: tuple[str, ...]
    document: str

    def names(self, role: str, action: str) -> set[str]:
        """What the row calls this permission of this role (the role's idea): nothing if it does not speak of it."""
        roles = {pattern for pattern in self.roles if fnmatch.fnmatchcase(role, pattern)}
        actions = {pattern for pattern in self.actions if fnmatch.fnmatchcase(action, pattern)}
        return roles | actions if roles and actions else set()


def roles(clients: Any) -> list[Role]:
    """Every role of every stack but CDK's own; `clients(name)` gives a boto3 client."""
    cloudformation, iam = clients("cloudformation"), clients("iam")
    found = []
    for stack in cloudformation.describe_stacks()["Stacks"]:
        if stack["StackName"] == "CDKToolkit":
            continue
        for resource in cloudformation.describe_stack_resources(StackName=stack["StackName"])[
            "StackResources"
        ]:
            if (
                resource["ResourceType"] == "AWS::IAM::Role"
                and resource["ResourceStatus"] != "DELETE_COMPLETE"
            ):
                name = resource["PhysicalResourceId"]
                documents = {
                    policy: iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
                    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]
                }
                found.append(Role(stack["StackName"], resource["LogicalResourceId"], name, documents))
    return sorted(found, key=lambda role: (role.stack, role.logical_id))


def excuses(document: Path) -> list[Excuse]:
    """The rows of the table; actions and roles stand in backticks, `*` in them stands for anything."""
    text = document.read_text(encoding="utf-8").partition(_SECTION)[2].partition("\n#")[0]
    rows = (line.strip("| \n").split(" | ") for line in text.splitlines() if line.startswith("| `"))
    return [
        Excuse(tuple(re.findall("`([^`]+)`", row[0])), tuple(re.findall("`([^`]+)`", row[1])), row[-1])
        for row in rows
    ]


def allows(policies: Policies, decision: Decision) -> bool:
    """Whether the policies alone allow what the decision was about."""
    from local.cloud import seams  # noqa: PLC0415 - MiniStack reads the environment while it is imported

    context = seams.iam_evaluator.EvalContext(
        principal_arn=decision.principal,
        principal_type="AssumedRole",
        principal_account=ACCOUNT,
        action=decision.action,
        resource_arn=decision.resource,
        region=REGION,
        secure_transport=True,
        service_context={key.lower(): value for key, value in decision.context.items()},
    )
    documents = [seams.iam_evaluator.parse_policy_document(document) for document in policies.values()]
    return bool(seams.iam_evaluator.evaluate(context, documents).decision == "Allow")


def unseen(policies: Policies, recorded: Iterable[Decision]) -> Iterator[Permission]:
    """Each permission without which every recorded decision would be the same."""
    allowed = [decision for decision in recorded if decision.allowed and allows(policies, decision)]
    for permission in decisions.permissions(policies):
        less, pattern = decisions.without(policies, permission), permission.action.lower()
        used = (one for one in allowed if fnmatch.fnmatchcase(one.action.lower(), pattern))
        if all(allows(less, one) for one in used):
            yield permission


def report(found: Iterable[Role], recorded: Iterable[Decision], table: Sequence[Excuse]) -> Iterator[str]:
    """The report's lines: "!" marks what is unseen and not explained, "+" what the table calls unseen and was shown."""
    by_role = decisions.by_role(recorded)
    granted_names: dict[Excuse, set[str]] = {row: set() for row in table}
    unseen_names: dict[Excuse, set[str]] = {row: set() for row in table}
    for role in found:
        mine = by_role.get(role.name, [])
        granted = list(decisions.permissions(role.policies))
        idle = list(unseen(role.policies, mine))
        yield f"{role.stack} {role.idea}: {len(granted)} granted, {len(granted) - len(idle)} used"
        used = sorted({permission.action for permission in granted if permission not in idle})
        yield f"    used: {', '.join(used) or 'none'}"
        for row in table:
            granted_names[row].update(*(row.names(role.idea, permission.action) for permission in granted))
        for permission in idle:
            excuse = next((row for row in table if row.names(role.idea, permission.action)), None)
            if excuse:
                unseen_names[excuse] |= excuse.names(role.idea, permission.action)
                yield f"    unseen: {permission.action} (required by {excuse.document})"
            else:
                yield f"!   unseen: {permission.action} on {', '.join(permission.resources)}"
        for action, resource in sorted({(one.action, one.resource) for one in mine if not one.allowed}):
            yield f"    denied: {action} on {resource}"
    for row in table:
        for name in sorted(granted_names[row] - unseen_names[row]):
            yield f"+   seen: {name} of the row by {row.document}"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the report of the cloud in a folder; exit code 1 without roles, or if something unseen is not in the table."""
    parser = argparse.ArgumentParser(prog="python -m local.cloud.iam_report", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".cloud")
    parser.add_argument("--table", type=Path, default=TABLE, help="the document with the table")
    arguments = parser.parse_args(argv)
    try:
        place = lifecycle.found(arguments.folder.resolve())
    except lifecycle.CloudError as error:
        sys.exit(str(error))
    os.environ.update(settings(place))
    found = roles(lambda service: boto3.client(service, region_name=REGION, endpoint_url=place.url))
    if not found:
        sys.exit("No stack with a role is deployed here. In `make shell`: npx cdk deploy --all")
    lines = report(
        found,
        decisions.read(place.folder / decisions.FILE),
        excuses(arguments.table),
    )
    marked = 0
    for line in lines:
        print(line)
        marked += line.startswith("!")
    if marked:
        sys.exit(
            f"{marked} lines marked ! are not in the table of {TABLE.relative_to(ROOT)}. Take the permission away, or "
            "name the document that requires it."
        )


if __name__ == "__main__":
    main()
