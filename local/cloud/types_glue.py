"""AWS::Glue types that CloudFormation lacks here; Ref is the name for each."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

from local.cloud import resources, seams
from local.cloud.glue import quality
from local.cloud.resources import Properties, Request

# What drift detection compares; Glue keeps these as templates write them.
_DRIFT: dict[str, tuple[Mapping[str, Properties], str]] = {
    "AWS::Glue::Crawler": (seams.glue._crawlers, "DatabaseName TablePrefix"),
    "AWS::Glue::DataQualityRuleset": (quality.rulesets, "Description Ruleset"),
    "AWS::Glue::Job": (
        seams.glue._jobs,
        "Description Role Command DefaultArguments MaxRetries Timeout GlueVersion NumberOfWorkers WorkerType",
    ),
    "AWS::Glue::Trigger": (
        seams.glue._triggers,
        "Type Predicate Actions WorkflowName EventBatchingCondition",
    ),
    "AWS::Glue::Workflow": (seams.glue._workflows, "Description MaxConcurrentRuns"),
}


def install(_cloud: object) -> None:
    """Register them."""
    for resource_type, (store, names) in _DRIFT.items():
        reader = functools.partial(_current, store), frozenset(names.split())
        seams.drift._DRIFT_READERS[resource_type] = reader
    resources.register(
        "AWS::Glue::SecurityConfiguration",
        create=_create_security_configuration,
        delete=lambda name, request: request.client("glue").delete_security_configuration(Name=name),
        replacing=("Name", "EncryptionConfiguration"),
    )
    resources.register(
        "AWS::Glue::Workflow",
        create=_create_workflow,
        update=lambda name, request, _old: request.client("glue").update_workflow(
            Name=name, **_workflow(request.properties)
        ),
        delete=lambda name, request: request.client("glue").delete_workflow(Name=name),
        replacing=("Name",),
        tags=("Tags", "map"),
    )
    resources.register(
        "AWS::Glue::DataQualityRuleset",
        create=_create_ruleset,
        update=lambda name, request, _old: request.client("glue").update_data_quality_ruleset(
            Name=name, **_ruleset(request.properties)
        ),
        delete=_delete_ruleset,
        replacing=("Name",),
        tags=("Tags", "map"),
    )


def _current(store: Mapping[str, Properties], name: str, _expected: Properties) -> Properties | None:
    return store.get(name)


def _create_security_configuration(request: Request) -> str:
    name = request.name("Name")
    encryption = request.properties["EncryptionConfiguration"]
    given = {("S3Encryption" if key == "S3Encryptions" else key): value for key, value in encryption.items()}
    request.client("glue").create_security_configuration(Name=name, EncryptionConfiguration=given)
    return name


def _create_workflow(request: Request) -> str:
    name = request.name("Name")
    tags = request.properties.get("Tags", {})
    request.client("glue").create_workflow(Name=name, Tags=tags, **_workflow(request.properties))
    return name


def _workflow(properties: Properties) -> dict[str, Any]:
    names = ("Description", "DefaultRunProperties", "MaxConcurrentRuns")
    given = {name: properties[name] for name in names if name in properties}
    return given | (
        {"MaxConcurrentRuns": int(given["MaxConcurrentRuns"])} if "MaxConcurrentRuns" in given else {}
    )


def _create_ruleset(request: Request) -> str:
    name = request.name("Name", limit=255)
    request.client("glue").create_data_quality_ruleset(Name=name, **_ruleset(request.properties))
    return name


def _delete_ruleset(name: str, request: Request) -> None:
    client = request.client("glue")
    with contextlib.suppress(client.exceptions.EntityNotFoundException):
        client.delete_data_quality_ruleset(Name=name)


def _ruleset(properties: Properties) -> Properties:
    return {name: value for name, value in properties.items() if name not in ("Name", "Tags")}
