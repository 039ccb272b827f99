"""AWS::Glue types that CloudFormation lacks here; Ref is the name for each."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

from local.cloud import resources, seams
from local.cloud.glue import quality
from local.cloud.protocol import arn
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
# What a workflow has when a template says nothing: UpdateWorkflow leaves what a request does not name.
_WORKFLOW: Properties = {"Description": "", "DefaultRunProperties": {}, "MaxConcurrentRuns": 0}


def install(_cloud: object) -> None:
    """Register them."""
    for resource_type, (store, names) in _DRIFT.items():
        reader = functools.partial(_current, store), frozenset(names.split())
        seams.drift._DRIFT_READERS[resource_type] = reader
    resources.register(
        "AWS::Glue::SecurityConfiguration",
        create=_create_security_configuration,
        delete=_deleting("delete_security_configuration"),
        required=("EncryptionConfiguration",),
        replacing=("Name", "EncryptionConfiguration"),
    )
    resources.register(
        "AWS::Glue::Workflow",
        create=_create_workflow,
        update=_update_workflow,
        delete=_deleting("delete_workflow"),
        optional=tuple(_WORKFLOW),
        replacing=("Name",),
        tags=("Tags", "map"),
    )
    resources.register(
        "AWS::Glue::DataQualityRuleset",
        create=_create_ruleset,
        update=_update_ruleset,
        delete=_deleting("delete_data_quality_ruleset"),
        required=("Ruleset",),
        optional=("Description",),
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


def _update_workflow(name: str, request: Request, old: Properties) -> None:
    request.client("glue").update_workflow(Name=name, **_workflow(request.properties))
    _retag(arn("glue", f"workflow/{name}"), request, old)


def _workflow(properties: Properties) -> dict[str, Any]:
    given: Properties = {name: properties.get(name, default) for name, default in _WORKFLOW.items()}
    return given | {"MaxConcurrentRuns": int(given["MaxConcurrentRuns"])}


def _create_ruleset(request: Request) -> str:
    name = request.name("Name", limit=255)
    request.client("glue").create_data_quality_ruleset(**request.properties | {"Name": name})
    return name


def _update_ruleset(name: str, request: Request, old: Properties) -> None:
    request.client("glue").update_data_quality_ruleset(
        Name=name,
        Ruleset=request.properties["Ruleset"],
        Description=request.properties.get("Description", ""),
    )
    _retag(quality.ruleset_arn(name), request, old)


def _retag(resource: str, request: Request, old: Properties) -> None:
    client, tags, before = request.client("glue"), request.properties.get("Tags", {}), old.get("Tags", {})
    if gone := sorted(before.keys() - tags.keys()):
        client.untag_resource(ResourceArn=resource, TagsToRemove=gone)
    if tags != before:
        client.tag_resource(ResourceArn=resource, TagsToAdd=tags)


def _deleting(operation: str) -> resources.Delete:
    """Delete by name; what is gone already is no failure."""

    def delete(name: str, request: Request) -> None:
        client = request.client("glue")
        with contextlib.suppress(client.exceptions.EntityNotFoundException):
            getattr(client, operation)(Name=name)

    return delete
