"""What is wrong with a template's IAM statements, by AWS's own tables of actions, resources and condition keys.

The tables are those of the Service Authorization Reference, as parliament ships them; cfn-lint's copy is newer but
coarser, so it only fills in the actions that parliament does not know yet.
"""

import dataclasses
import fnmatch
import functools
import importlib.resources
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from tests.support.intrinsics import Resolver
from tools.assembly import Assembly, Template

# "AWS global condition context keys" (IAM User Guide): in every request. The keys of tags are not: an action supports
# them or does not, so they come from the tables.
GLOBAL_KEYS = (
    "lambda:sourcefunctionarn",  # in every call that the code of a function makes
    "aws:currenttime",
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principalorgid",
    "aws:principalservicename",
    "aws:principaltype",
    "aws:requestedregion",
    "aws:resourceaccount",
    "aws:securetransport",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceip",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "aws:viaawsservice",
    "s3:tlsversion",
)
# Documented for the service, but on no action's row of the tables ("Condition keys for AWS KMS").
SERVICE_KEYS = {"kms": ("kms:encryptioncontext:*", "kms:viaservice", "kms:granti*", "kms:calleraccount")}


@dataclasses.dataclass(frozen=True)
class Action:
    """One API permission: the ARN patterns it acts on (none: it takes "*" only) and its condition keys."""

    resources: frozenset[tuple[str, str]]
    keys: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Statement:
    """One statement of one policy document, resolved. `kind` is identity, trust, resource or endpoint."""

    stack: str
    resource: str
    where: str
    kind: str
    allow: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    condition: dict[str, dict[str, Any]]
    principals: tuple[str, ...]
    negations: tuple[str, ...]


def statements(assembly: Assembly, template: Template) -> Iterator[Statement]:
    """Every statement of every policy document in a template, wherever it stands."""
    resolver = Resolver(assembly, template)
    for name, resource in template.resources().items():
        for path, document in _documents(resource.get("Properties", {}), ()):
            kind = "identity" if resource["Type"].startswith("AWS::IAM::") else "resource"
            if path[-1] == "AssumeRolePolicyDocument":
                kind = "trust"
            if resource["Type"] == "AWS::EC2::VPCEndpoint":
                kind = "endpoint"
            for number, raw in enumerate(document["Statement"]):
                principal = raw.get("Principal", {})
                named = (
                    principal.values()
                    if isinstance(principal, dict) and "Ref" not in principal
                    else [principal]
                )
                yield Statement(
                    stack=template.stack,
                    resource=name,
                    where=f"{template.stack}/{name}.{'.'.join(path)}[{number}]",
                    kind=kind,
                    allow=raw["Effect"] == "Allow",
                    actions=tuple(resolver.strings(raw.get("Action", []))),
                    resources=tuple(resolver.strings(raw.get("Resource", []))),
                    condition=raw.get("Condition", {}),
                    principals=tuple(string for value in named for string in resolver.strings(value)),
                    negations=tuple(sorted({"NotAction", "NotResource", "NotPrincipal"} & raw.keys())),
                )


def findings(statement: Statement) -> list[str]:
    """What AWS would refuse, ignore, or what grants more than it says."""
    checks = (_open_endpoint,) if statement.kind == "endpoint" else _CHECKS
    return [f"{statement.where}: {problem}" for check in checks for problem in check(statement)]


def stars(statement: Statement) -> list[str]:
    """Wildcards in what a role may do that need a reason, as cdk-nag writes them (IAM5)."""
    if statement.kind != "identity" or not statement.allow:
        return []
    found = [f"Action::{action}" for action in statement.actions if "*" in action]
    limitable = any(action.resources for name in statement.actions for action in expand(name))
    return [*found, "Resource::*"] if limitable and "*" in statement.resources else found


def _unknown_actions(statement: Statement) -> Iterator[str]:
    for action in statement.actions:
        if not expand(action):
            yield f"{action} is no action of AWS"


def _mismatched_resources(statement: Statement) -> Iterator[str]:
    if statement.kind == "trust" or "*" in statement.resources:
        return
    for name in statement.actions:
        if expand(name) and not any(_acts_on(name, resource) for resource in statement.resources):
            formats = sorted({arn for action in expand(name) for _, arn in action.resources}) or ["*"]
            yield f"{name} does not act on {', '.join(statement.resources)}, but on {' or '.join(formats)}"
    for resource in statement.resources:
        if not any(_acts_on(name, resource) for name in statement.actions):
            yield f"no action of the statement acts on {resource}"


def _ineffective_conditions(statement: Statement) -> Iterator[str]:
    for operator, keys in statement.condition.items():
        for key in keys:
            for name in statement.actions:
                known = {known for action in expand(name) for known in action.keys}
                known |= {*GLOBAL_KEYS, *SERVICE_KEYS.get(name.split(":")[0].lower(), ())}
                if not any(fnmatch.fnmatchcase(key.lower(), pattern) for pattern in known):
                    effect = "never allows it" if statement.allow else "never denies it"
                    if not operator.endswith("IfExists"):
                        yield f"{name} has no condition key {key}: the statement {effect}"


def _broad(statement: Statement) -> Iterator[str]:
    if statement.negations and statement.allow:
        yield f"{', '.join(statement.negations)} with Allow grants all that it does not name"
    if not statement.allow:
        return
    if "*" in statement.principals:
        yield "anybody is allowed"
    administers = any(principal.endswith(":root") for principal in statement.principals)
    for action in statement.actions:
        if action == "*" or (action.endswith(":*") and not administers):
            yield f"{action} allows everything"
    if "iam:PassRole" in statement.actions:
        if any("*" in resource for resource in statement.resources):
            yield "iam:PassRole on a wildcard: name the role"
        if "iam:PassedToService" not in {key for keys in statement.condition.values() for key in keys}:
            yield "iam:PassRole without iam:PassedToService: name the service"


def _open_endpoint(statement: Statement) -> Iterator[str]:
    """An endpoint's policy grants nothing; it bounds who may pass, or what may be fetched."""
    ours = statement.condition.get("StringEquals", {}).get("aws:PrincipalAccount") == {
        "Ref": "AWS::AccountId"
    }
    one_bucket = all(re.match(r"arn:aws:s3:::[^*/]+/", resource) for resource in statement.resources)
    reads_one_bucket = statement.actions == ("s3:GetObject",) and one_bucket
    if statement.allow and not ours and not reads_one_bucket:
        yield "principals of other accounts may pass"


_CHECKS = (_unknown_actions, _mismatched_resources, _ineffective_conditions, _broad)


@functools.cache
def expand(name: str) -> tuple[Action, ...]:
    """The actions that a name or pattern such as "s3:GetObject*" stands for; none if it names nothing."""
    service, _, pattern = name.lower().partition(":")
    known = _services().get(service, {})
    if "*" not in pattern and "?" not in pattern:
        return (known[pattern],) if pattern in known else ()
    return tuple(action for key, action in known.items() if fnmatch.fnmatchcase(key, pattern))


@functools.cache
def _acts_on(name: str, resource: str) -> bool:
    for action in expand(name):
        for resource_type, arn in action.resources:
            # A bucket's name has no slash: "bucket/*" is objects, which s3:ListBucket does not act on.
            if resource_type == "bucket" and "/" in resource:
                continue
            if _overlap(re.sub(r"\$\{[^}]*\}|\.\*", "*", arn), resource):
                return True
    return False


@functools.cache
def _overlap(one: str, other: str) -> bool:
    """Whether some string matches both patterns."""
    if not one or not other:
        return not (one or other).strip("*")
    if one[0] == "*":
        return (
            _overlap(one[1:], other)
            or (other[0] != "*" and _overlap(one, other[1:]))
            or _overlap(one[1:], other[1:])
        )
    if other[0] == "*":
        return _overlap(other, one)
    return one[0] == other[0] and _overlap(one[1:], other[1:])


def _documents(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    children: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, dict):
        if isinstance(node.get("Statement"), list):
            yield path, node
        children = node.items()
    elif isinstance(node, list):
        children = enumerate(node)
    for key, child in children:
        yield from _documents(child, (*path, str(key)))


@functools.cache
def _services() -> dict[str, dict[str, Action]]:
    definition = json.loads(
        importlib.resources.files("parliament").joinpath("iam_definition.json").read_text()
    )
    services: dict[str, dict[str, Action]] = {}
    for service in definition:
        types = {entry["resource"]: entry for entry in service["resources"]}
        actions = services.setdefault(service["prefix"].lower(), {})
        for privilege in service["privileges"]:
            rows = privilege["resource_types"]
            named = [types[name] for row in rows if (name := row["resource_type"].rstrip("*")) in types]
            keys = [key for row in (*rows, *named) for key in row["condition_keys"]]
            actions[privilege["privilege"].lower()] = Action(
                frozenset((entry["resource"], entry["arn"]) for entry in named),
                frozenset(_pattern(key) for key in keys),
            )
    _add_newer(services)
    return services


def _add_newer(services: dict[str, dict[str, Action]]) -> None:
    data = importlib.resources.files("cfnlint").joinpath("data/AdditionalSpecs/Policies.json").read_text()
    for prefix, service in json.loads(data).items():
        actions = services.setdefault(prefix, {})
        for name, entry in service["Actions"].items():
            types = entry.get("Resources", [])
            types = {
                kind: service["Resources"][kind.lower()]
                for kind in ([types] if isinstance(types, str) else types)
            }
            resources = {(kind, arn) for kind, value in types.items() for arn in value["ARNFormats"]}
            keys = {_pattern(key) for value in types.values() for key in value.get("ConditionKeys", [])}
            actions.setdefault(name, Action(frozenset(resources), frozenset(keys)))


def _pattern(key: str) -> str:
    return re.sub(r"\$\{[^}]*\}", "*", key).lower()
