"""A deployment that is interrupted, made again, and taken down to nothing by `make destroy`'s own code."""

import contextlib
import functools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.cloud import lifecycle
from local.cloud.place import ACCOUNT, ROOT, Place
from tests.local.cloud import test_properties
from tests.local.cloud.conftest import Cdk, Clients
from tests.local.cloud.test_sagemaker_release import Release, Trained, trained
from tests.support.deployed import Deployment
from tools import destroy, replay
from tools.assembly import Assembly

__all__ = ["trained"]

# Made by the first registration of a variant for scaling, for all apps of the account.
LINKED_ROLE = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"


@contextlib.contextmanager
def own(stage: str, folders: pytest.TempPathFactory, assembly: Callable[[str], Assembly]) -> Iterator[Cdk]:
    """A cloud of its own, for what the shared one would not survive, and the CLI on a stage."""
    with lifecycle.running(Place.on_free_port(folders.mktemp(stage))) as place:
        yield Cdk(place, assembly(stage))


@pytest.fixture
def sandbox(tmp_path_factory: pytest.TempPathFactory, assembly: Callable[[str], Assembly]) -> Iterator[Cdk]:
    with own("sandbox", tmp_path_factory, assembly) as cdk:
        cdk("bootstrap")
        yield cdk


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory, assembly: Callable[[str], Assembly]) -> Iterator[Cdk]:
    """Production's, with nothing of ours in it."""
    with own("production", tmp_path_factory, assembly) as cdk:
        cdk("bootstrap")
        yield cdk


@pytest.fixture(scope="module")
def before(account: Cdk) -> set[str]:
    """What production's account holds without us."""
    return inventory(account.place.client)


@pytest.fixture(scope="module")
def production(account: Cdk, before: set[str]) -> Cdk:
    assert before
    assert account.deploy().count("✅") == len(account.assembly.templates)
    return account


# Service: (operation, the list in its answer, what names an item; "" where the item is the name)
INVENTORY = {
    "application-autoscaling": [
        ("describe_scalable_targets", "ScalableTargets", "ResourceId", {"ServiceNamespace": "sagemaker"})
    ],
    "budgets": [("describe_budgets", "Budgets", "BudgetName", {"AccountId": ACCOUNT})],
    "cloudformation": [("describe_stacks", "Stacks", "StackName")],
    "cloudwatch": [
        ("describe_alarms", "MetricAlarms", "AlarmName"),
        ("list_dashboards", "DashboardEntries", "DashboardName"),
    ],
    "ec2": [
        ("describe_vpcs", "Vpcs", "VpcId"),
        ("describe_subnets", "Subnets", "SubnetId"),
        ("describe_security_groups", "SecurityGroups", "GroupId"),
        ("describe_route_tables", "RouteTables", "RouteTableId"),
        ("describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId"),
        ("describe_flow_logs", "FlowLogs", "FlowLogId"),
    ],
    "ecr": [("describe_repositories", "repositories", "repositoryName")],
    "events": [("list_rules", "Rules", "Name")],
    "firehose": [("list_delivery_streams", "DeliveryStreamNames", "")],
    "glue": [
        ("get_databases", "DatabaseList", "Name"),
        ("get_connections", "ConnectionList", "Name"),
        ("get_crawlers", "Crawlers", "Name"),
        ("get_jobs", "Jobs", "Name"),
        ("get_triggers", "Triggers", "Name"),
        ("list_data_quality_rulesets", "Rulesets", "Name"),
        ("list_workflows", "Workflows", ""),
        ("get_security_configurations", "SecurityConfigurations", "Name"),
    ],
    "iam": [("list_roles", "Roles", "RoleName"), ("list_users", "Users", "UserName")],
    "kinesis": [("list_streams", "StreamNames", "")],
    "kms": [("list_keys", "Keys", "KeyId")],
    "lambda": [
        ("list_functions", "Functions", "FunctionName"),
        ("list_event_source_mappings", "EventSourceMappings", "UUID"),
    ],
    "logs": [("describe_log_groups", "logGroups", "logGroupName")],
    "s3": [("list_buckets", "Buckets", "Name")],
    "sagemaker": [
        ("list_endpoints", "Endpoints", "EndpointName"),
        ("list_endpoint_configs", "EndpointConfigs", "EndpointConfigName"),
        ("list_models", "Models", "ModelName"),
        ("list_model_package_groups", "ModelPackageGroupSummaryList", "ModelPackageGroupName"),
        ("list_pipelines", "PipelineSummaries", "PipelineName"),
    ],
    "scheduler": [("list_schedules", "Schedules", "Name")],
    "sns": [
        ("list_topics", "Topics", "TopicArn"),
        ("list_subscriptions", "Subscriptions", "SubscriptionArn"),
    ],
    "sqs": [("list_queues", "QueueUrls", "")],
    "ssm": [("describe_parameters", "Parameters", "Name")],
}


def inventory(clients: Clients) -> set[str]:
    """What is there, as `service kind name`, by listing every service."""
    found = set()
    for service, lists in INVENTORY.items():
        for operation, answer, name, *more in lists:
            listed: Any = getattr(clients(service), operation)(**(more[0] if more else {})).get(answer, [])
            found |= {f"{service} {answer} {item[name] if name else item}" for item in listed}
    return found


def prebuilt(cdk: Cdk) -> Callable[[list[str]], int]:
    """The CLI on the assembly that is there: `make destroy` would synthesize it again."""

    def run(arguments: list[str]) -> int:
        cdk(*(argument for argument in arguments if argument != "--no-notices"))
        return 0

    return run


@pytest.mark.deep
def test_a_cloud_killed_during_a_deploy_starts_again_and_deploys(sandbox: Cdk) -> None:
    place, clients = sandbox.place, sandbox.place.client
    command = [str(ROOT / "node_modules/.bin/cdk"), "deploy", "--all", "--app", str(sandbox.assembly.path)]
    with subprocess.Popen(
        [*command, "--require-approval", "never"],
        cwd=place.folder / "work",
        env=place.environment() | {"CI": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as deploying:
        wait_for(lambda: len(clients("cloudformation").describe_stacks()["Stacks"]) > 1)
        os.killpg(lifecycle.process(place) or 0, signal.SIGKILL)
        deploying.communicate(timeout=120)
    assert deploying.returncode != 0
    wait_for(lambda: lifecycle.process(place) is None)
    lifecycle.start(place)
    assert not clients("cloudformation").describe_stacks()["Stacks"]
    sandbox("bootstrap")
    assert sandbox.deploy().count("✅") == len(sandbox.assembly.templates)


def test_destroy_leaves_what_is_documented_and_nothing_else(sandbox: Cdk) -> None:
    clients = sandbox.place.client
    before = inventory(clients)
    sandbox.deploy()
    buckets = clients("s3").list_buckets()["Buckets"]
    raw = next(bucket["Name"] for bucket in buckets if "-raw" in bucket["Name"])
    for body in (b"a", b"b"):  # two versions, and a marker
        clients("s3").put_object(Bucket=raw, Key="flights/left.csv", Body=body)
    clients("s3").delete_object(Bucket=raw, Key="flights/left.csv")
    table = {"Name": "left", "StorageDescriptor": {"Columns": []}}
    clients("glue").create_table(DatabaseName="flights_sandbox", TableInput=table)

    assert destroy.main(["--stage", "sandbox", "--yes"], clients=clients, cdk=prebuilt(sandbox)) == 0
    left = inventory(clients) - before
    keys = {line.split()[-1] for line in left if line.startswith("kms")}
    states = {clients("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"] for key in keys}
    assert states == {"PendingDeletion"}
    assert {line for line in left if not line.startswith("kms")} == set()


@pytest.mark.deep
def test_production_deploys_and_reads_back(production: Cdk) -> None:
    assert "Number of stacks with differences: 0" in production("diff", "--all")
    assert set(test_properties.differences(production.assembly, production.place.client)) == set()


@pytest.mark.deep
def test_an_upload_starts_the_workflow_of_production(production: Cdk, tmp_path: Path) -> None:
    """By the template's own rule, trigger and batch window; every step with the template's roles."""
    clients = production.place.client
    found = list(Deployment(production.assembly, clients("cloudformation")).resources())
    [workflow] = [it.physical_id for it in found if it.type == "AWS::Glue::Workflow"]
    [raw] = [
        it.physical_id
        for it in found
        if it.type == "AWS::S3::Bucket" and it.logical_id.startswith("Raw") and "Logs" not in it.logical_id
    ]
    sent = [event for event in replay.events(flights=300) if event.fault is None]
    for _ in replay.write(sent, f"s3://{raw}", batch_share=0.5, s3=clients("s3")):
        continue
    glue = clients("glue")

    def run() -> Any:
        return next(iter(glue.get_workflow_runs(Name=workflow)["Runs"]), {})

    wait_for(lambda: run().get("Status") == "COMPLETED", seconds=240)
    assert run()["WorkflowRunProperties"].keys() == {"aws:eventIds"}
    statistics = run()["Statistics"]
    assert statistics["SucceededActions"] == statistics["TotalActions"] == 4, glue.get_crawlers()
    assert glue.get_table(DatabaseName="flights_production", Name="curated_flights")["Table"]


@pytest.mark.deep
def test_production_serves_what_is_approved_and_keeps_it_when_it_is_deployed_again(
    production: Cdk, trained: Trained
) -> None:
    release = Release(production, production.place.client, "flights-production-serving")
    stack = release.approve(package := release.register(trained, "first"))
    assert stack["StackStatus"] == "UPDATE_COMPLETE", release.reasons()
    found = release.client("sagemaker").describe_endpoint(EndpointName=release.endpoint)
    assert found["EndpointStatus"] == "InService"
    assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 4
    assert set(test_properties.differences(production.assembly, production.place.client)) == set()
    production.deploy()
    assert {"ParameterKey": "ModelPackageArn", "ParameterValue": package} in release.parameters()


@pytest.mark.deep
def test_production_is_protected_and_keeps_its_data(production: Cdk, before: set[str]) -> None:
    clients = production.place.client
    made = {line.split()[1] for line in inventory(clients) - before}
    assert made >= {answer for _, answer, _ in INVENTORY["ec2"]} | {"EventSourceMappings", "Keys"}
    assert "TerminationProtection" in production("destroy", "--all", "--force", succeeds=False)
    taken_down = functools.partial(
        destroy.main, ["--stage", "production", "--yes"], clients=clients, cdk=prebuilt(production)
    )
    assert taken_down() == 1
    stacks = [item["StackName"] for item in clients("cloudformation").describe_stacks()["Stacks"]]
    for stack in stacks:
        clients("cloudformation").update_termination_protection(
            StackName=stack, EnableTerminationProtection=False
        )
    assert taken_down() == 0
    left = inventory(clients) - before
    # `retain_data` keeps what `tools.destroy` names: the key, the buckets, the model group, the database, logs; AWS keeps
    # the role of its own with which it scales.
    kept = {"kms Keys", "s3 Buckets", "sagemaker ModelPackageGroupSummaryList", "glue DatabaseList"}
    assert {line.rpartition(" ")[0] for line in left} == kept | {"logs logGroups", "iam Roles"}
    assert {line for line in left if line.startswith("iam")} == {f"iam Roles {LINKED_ROLE}"}


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
