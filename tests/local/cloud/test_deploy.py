"""The sandbox, deployed by the real CLI into the embedded cloud: differences, updates, drift, failures."""

import json
import shutil
from pathlib import Path

from tests.local.cloud.conftest import Cdk
from tests.support.deployed import Deployment
from tools.assembly import Assembly


def changed(assembly: Assembly, folder: Path, stack: str, old: str, new: str) -> Assembly:
    """A copy of an assembly in which one stack's template says something else, under another asset hash."""
    copy = Assembly(assembly.stage, Path(shutil.copytree(assembly.path, folder)))
    template = copy.path / f"{stack}.template.json"
    assert old in template.read_text()
    template.write_text(template.read_text().replace(old, new))
    assets = copy.read(f"{stack}.assets.json")["files"]
    known = next(key for key, file in assets.items() if file["source"]["path"] == template.name)
    for name in ("manifest.json", f"{stack}.assets.json"):
        file = copy.path / name
        file.write_text(file.read_text().replace(known, f"{abs(hash(new)):064x}"))
    return copy


def test_every_stack_is_created(deployed: Cdk, client) -> None:
    names = {f"flights-sandbox-{stack.lower()}" for stack in deployed.assembly.templates}
    stacks = {item["StackName"]: item for item in client("cloudformation").describe_stacks()["Stacks"]}
    assert {stacks[name]["StackStatus"] for name in names} == {"CREATE_COMPLETE"}
    assert {stacks[name]["RoleARN"].rpartition("/")[2] for name in names} == {
        "cdk-hnb659fds-cfn-exec-role-000000000000-us-east-1"
    }


def test_the_difference_is_empty(deployed: Cdk) -> None:
    assert "Number of stacks with differences: 0" in deployed("diff", "--all")


def test_a_second_deploy_changes_nothing(deployed: Cdk) -> None:
    assert deployed.deploy().count("(no changes)") == len(deployed.assembly.templates)


def test_an_update_is_seen_made_and_taken_back(deployed: Cdk, client, tmp_path: Path) -> None:
    old, new = '"MessageRetentionPeriod": 1209600', '"MessageRetentionPeriod": 864000'
    other = Cdk(deployed.place, changed(deployed.assembly, tmp_path / "asm", "Release", old, new))

    def retention() -> set[str]:
        read = client("sqs").get_queue_attributes
        queues = Deployment(deployed.assembly, client("cloudformation")).resources()
        urls = [
            item.physical_id for item in queues if item.stack == "Release" and item.type.endswith("Queue")
        ]
        attributes = [read(QueueUrl=url, AttributeNames=["MessageRetentionPeriod"]) for url in urls]
        return {item["Attributes"]["MessageRetentionPeriod"] for item in attributes}

    before = retention()
    assert "864000" in other("diff", "Release", "--exclusively")
    other.deploy("Release", "--exclusively")
    assert retention() == {"864000" if value == "1209600" else value for value in before} != before
    deployed.deploy("Release", "--exclusively")
    assert retention() == before


def test_drift_is_found(deployed: Cdk, client) -> None:
    assert "No drift detected" in deployed("drift", "Processing")
    workflow = next(
        item.physical_id
        for item in Deployment(deployed.assembly, client("cloudformation")).resources()
        if item.type == "AWS::Glue::Workflow"
    )
    known = client("glue").get_workflow(Name=workflow)["Workflow"]["Description"]
    client("glue").update_workflow(Name=workflow, Description="changed by hand")
    try:
        assert "changed by hand" in deployed("drift", "Processing")
    finally:
        client("glue").update_workflow(Name=workflow, Description=known)


def test_a_failing_create_rolls_back_and_says_why(deployed: Cdk, client, tmp_path: Path) -> None:
    taken = {"Type": "AWS::Glue::Workflow", "Properties": {"Name": "taken"}}
    template = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}, "W": {**taken, "DependsOn": "Queue"}}}
    (tmp_path / "Failing.template.json").write_text(json.dumps(template))
    artifact = {
        "type": "aws:cloudformation:stack",
        "environment": "aws://unknown-account/unknown-region",
        "properties": {"templateFile": "Failing.template.json"},
    }
    manifest = {"version": "36.0.0", "artifacts": {"Failing": artifact}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    client("glue").create_workflow(Name="taken")
    queues = client("sqs").list_queues()["QueueUrls"]
    told = Cdk(deployed.place, Assembly("none", tmp_path))("deploy", "Failing", succeeds=False)
    assert "already exists" in told
    stack = client("cloudformation").describe_stacks(StackName="Failing")["Stacks"][0]
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert client("sqs").list_queues()["QueueUrls"] == queues
    client("cloudformation").delete_stack(StackName="Failing")
    client("glue").delete_workflow(Name="taken")
