"""What cdk-nag, the built-in validator and cfn-lint say about an assembly, and which of it was accepted, and why."""

from collections.abc import Mapping
from typing import Any

from cfnlint.config import ConfigMixIn, ManualArgs
from cfnlint.runner import Runner

from tools.assembly import Assembly

NAG = "AwsSolutions"
# CDK itself accepts these where it writes what the validator's tables do not know; they are not ours to justify.
BY_CDK = {f"CloudFormation-Validate::{rule}" for rule in ("W3010", "F3002", "F3003")}

Acknowledgment = tuple[str, str]


def violations(report: Mapping[str, Any]) -> list[str]:
    """Every finding of a validation report that nobody accepted, warnings included: enum faults are only warnings."""
    return [
        f"{construct['constructPath']}: {found['ruleName']}: {found['description']}"
        for plugin in report["pluginReports"]
        for found in plugin["violations"]
        for construct in found["violatingConstructs"]
    ]


def acknowledged(assembly: Assembly) -> dict[Acknowledgment, str]:
    """What our code accepts: (construct path, finding) → reason."""
    found: dict[Acknowledgment, str] = {}
    for stack in assembly.templates:
        for path, entries in assembly.read(f"{stack}.metadata.json").items():
            for entry in entries:
                if entry["type"] == "aws:cdk:acknowledged-rules":
                    found |= {
                        (path.removeprefix("/"), rule): reason
                        for rule, reason in entry["data"].items()
                        if rule not in BY_CDK
                    }
    return found


def suppressed(report: Mapping[str, Any]) -> list[tuple[Acknowledgment, list[str]]]:
    """What was found and accepted: the acknowledgment that did it, and the paths of the constructs it was found on."""
    return [
        (
            (found["acknowledgedAt"], found["acknowledgedId"]),
            [construct["constructPath"] for construct in found["violatingConstructs"]],
        )
        for plugin in report["pluginReports"]
        for found in plugin.get("suppressedViolations", [])
    ]


def lint(assembly: Assembly) -> list[str]:
    """cfn-lint's findings. W3005 is ignored: CDK adds DependsOn to what a reference orders already."""
    arguments = ManualArgs(
        templates=[str(assembly.path / f"{stack}.template.json") for stack in assembly.templates],
        regions=["us-east-1"],
        ignore_checks=["W3005"],
    )
    return [
        f"{match.filename}:{match.linenumber}: {match.rule.id}: {match.message}"
        for match in Runner(ConfigMixIn([], **arguments)).run()
    ]


def construct_path(assembly: Assembly, stack: str, logical_id: str) -> str:
    """Where in the construct tree a resource stands, as findings name it."""
    for path, entries in assembly.read(f"{stack}.metadata.json").items():
        if any(entry["type"] == "aws:cdk:logicalId" and entry["data"] == logical_id for entry in entries):
            return path.removeprefix("/")
    raise KeyError(f"{stack}/{logical_id}")
