"""The synthesized templates pass every static check, in both stages, with a written reason for each exception."""

import functools
import json
from collections.abc import Callable
from typing import Any

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from stacks import config
from tests.support import safeguards, static
from tests.support.synth import CONNECTIONS
from tools.assembly import Assembly, context


def test_cdk_nag_and_the_validator_find_nothing_unexplained(every_assembly: Assembly) -> None:
    assert static.violations(every_assembly.read("validation-report.json")) == []


def test_cdk_nag_took_part(every_assembly: Assembly) -> None:
    report = every_assembly.read("validation-report.json")
    assert static.NAG in {plugin["pluginName"] for plugin in report["pluginReports"]}


def test_every_acknowledgment_has_a_reason(every_assembly: Assembly) -> None:
    short = {key: reason for key, reason in static.acknowledged(every_assembly).items() if len(reason) < 20}
    assert short == {}


def test_every_acknowledgment_is_still_needed(every_assembly: Assembly) -> None:
    used = {
        acknowledgment
        for acknowledgment, _ in static.suppressed(every_assembly.read("validation-report.json"))
    }
    stale = sorted(static.acknowledged(every_assembly).keys() - used)
    assert stale == [], "nothing is found there any more: remove the acknowledgment"


def test_cfn_lint_finds_nothing_in_any_stack(each_complete: Assembly) -> None:
    assert static.lint(each_complete) == []


@pytest.mark.deep  # the same stacks, without the lines that name the options
def test_cfn_lint_finds_nothing_without_options(each_assembly: Assembly) -> None:
    assert static.lint(each_assembly) == []


def test_encryption_transport_access_and_removal_are_explicit(every_assembly: Assembly) -> None:
    retain = config.load(context(every_assembly.stage)).foundation.retain_data
    templates = every_assembly.templates.values()
    assert [found for template in templates for found in safeguards.findings(template, retain=retain)] == []


def test_what_production_keeps_can_be_imported_again_without_the_rest(
    assembly: Callable[[str], Assembly],
) -> None:
    """README.md, "Deploy again": an import brings back only what exists, so nothing else may be referred to."""
    foundation = assembly("production").template("Foundation")
    kept = {name: entry for name, entry in foundation.resources().items() if entry["Type"] in safeguards.KEPT}
    others = {*foundation.resources(), *foundation.json["Parameters"]} - kept.keys()
    text = json.dumps(list(kept.values()))
    assert [name for name in others if name in text] == []
    for kind in {entry["Type"] for entry in kept.values()}:
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
        assert "read" in schema["handlers"], f"CloudFormation cannot import {kind}"


def test_every_type_that_can_be_encrypted_is_in_the_table(complete: Callable[[str], Assembly]) -> None:
    templates = [found for stage in config.STAGES for found in complete(stage).templates.values()]
    types = {resource["Type"] for template in templates for resource in template.resources().values()}
    schema = functools.partial(PROVIDER_SCHEMA_MANAGER.get_resource_schema, "us-east-1")
    encryptable = {kind for kind in types if safeguards.encryptable(schema(kind).schema)}
    assert encryptable - safeguards.TABLE.keys() - safeguards.NOTHING_TO_ENCRYPT.keys() == set()


def test_an_isolated_stage_records_its_traffic(assembly: Callable[[str], Assembly]) -> None:
    foundation = assembly("production").template("Foundation")
    assert foundation.only("AWS::EC2::FlowLog")["Properties"]["TrafficType"] == "ALL"
    assert foundation.resources("AWS::EC2::NatGateway") == {}
    assert foundation.resources("AWS::EC2::InternetGateway") == {}


def test_production_is_protected_against_termination(every_assembly: Assembly) -> None:
    protected = {
        artifact["properties"]["terminationProtection"]
        for artifact in every_assembly.manifest["artifacts"].values()
        if artifact["type"] == "aws:cloudformation:stack"
    }
    assert protected == {every_assembly.stage == "production"}


def test_stacks_carry_no_custom_resource(every_assembly: Assembly) -> None:
    """Provider functions run with broad permissions, and an emulator cannot run them."""
    custom = [
        f"{template.stack}/{name}"
        for template in every_assembly.templates.values()
        for name, resource in template.resources().items()
        if resource["Type"].startswith(("Custom::", "AWS::CloudFormation::CustomResource"))
    ]
    assert custom == []


def test_synth_tried_no_connection(every_assembly: Assembly) -> None:
    assert (every_assembly.path / CONNECTIONS).read_text() == ""


def test_stacks_belong_to_no_account_and_no_region(every_assembly: Assembly) -> None:
    environments = {
        artifact["environment"]
        for artifact in every_assembly.manifest["artifacts"].values()
        if artifact["type"] == "aws:cloudformation:stack"
    }
    assert environments == {"aws://unknown-account/unknown-region"}


def test_every_feature_flag_has_the_recommended_value_or_a_stated_one(every_assembly: Assembly) -> None:
    flags = every_assembly.manifest["artifacts"]["aws-cdk-lib/feature-flag-report"]["properties"]["flags"]
    spelled = context("sandbox")
    unset = [
        name
        for name, flag in flags.items()
        # A flag of CDK v1 behaves as recommended without being set.
        if name not in spelled
        and flag.get("unconfiguredBehavesLike", {}).get("v2") != flag["recommendedValue"]
    ]
    assert unset == [], "list these flags in cdk.json"


def _tags(resource: dict[str, Any]) -> dict[str, str] | None:
    """A resource's tags; None where its type takes none. Types disagree on the property's name and form."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", resource["Type"]).schema
    where = schema.get("tagging", {}).get("tagProperty")
    if where is None:
        return None
    tags = resource["Properties"].get(where.split("/")[-1], {})
    return tags if isinstance(tags, dict) else {tag["Key"]: tag["Value"] for tag in tags}


def test_every_resource_that_can_carry_tags_names_its_project_stage_and_deployment(
    every_assembly: Assembly,
) -> None:
    tags = {
        (resource["Type"], f"{template.stack}/{name}"): found
        for template in every_assembly.templates.values()
        for name, resource in template.resources().items()
        if (found := _tags(resource)) is not None
    }
    stage = every_assembly.stage
    wanted = {"project": "flights", "stage": stage, "deployment": f"flights-{stage}"}
    assert [where for where, found in tags.items() if not wanted.items() <= found.items()] == []
    assert {
        "AWS::S3::Bucket",
        "AWS::IAM::Role",
        "AWS::SageMaker::Model",
        "AWS::SageMaker::EndpointConfig",
    } <= {kind for kind, _ in tags}
