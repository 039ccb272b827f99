"""`make destroy`: everything a run created goes, nothing is touched without a yes, and a second run finishes the first."""

import os
import subprocess

import botocore.exceptions
import pytest
from moto import mock_aws

from tests.tools.deployed import Account
from tools import destroy

FOUNDATION, TRAINING = "flights-sandbox-foundation", "flights-sandbox-training"


@pytest.fixture
def account():
    with mock_aws():
        account = Account()
        account.bucket(FOUNDATION, "raw", policy=None)
        s3 = account("s3")
        s3.put_object(Bucket="raw", Key="batch/a.csv", Body=b"1")
        s3.put_object(Bucket="raw", Key="batch/a.csv", Body=b"2")
        s3.delete_object(Bucket="raw", Key="batch/a.csv")
        account("glue").create_database(DatabaseInput={"Name": "flights"})
        account("glue").create_table(DatabaseName="flights", TableInput={"Name": "curated"})
        account.stacks.add(FOUNDATION, "AWS::Glue::Database", "flights")
        sagemaker = account("sagemaker")
        group = sagemaker.create_model_package_group(ModelPackageGroupName="flights")["ModelPackageGroupArn"]
        sagemaker.create_model_package(ModelPackageGroupName="flights", ModelPackageDescription="v1")
        account.stacks.add(FOUNDATION, "AWS::SageMaker::ModelPackageGroup", group)
        account.stacks.add(TRAINING, "AWS::SNS::Topic", "unrelated")
        yield account


class Cdk:
    """Deletes the stacks it is told to, as `cdk destroy` would; a bucket with objects in it stops it half-way."""

    def __init__(self, account):
        self.account, self.calls = account, []

    def __call__(self, arguments):
        self.calls.append(arguments)
        for stack in (name for name in arguments[1:] if name in destroy.aws.STACKS):
            name = f"flights-sandbox-{stack.lower()}"
            resources = self.account.stacks.stacks[name]
            if any(kind == "AWS::S3::Bucket" and self.holds_objects(bucket) for kind, bucket in resources):
                for kind, physical_id in resources:
                    self.delete(kind, physical_id)
                return 1
            del self.account.stacks.stacks[name]
        return 0

    def holds_objects(self, bucket):
        if bucket in self.account.stacks.gone:
            return False
        versions = self.account("s3").list_object_versions(Bucket=bucket)
        return bool(versions.get("Versions") or versions.get("DeleteMarkers"))

    def delete(self, kind, physical_id):
        if kind == "AWS::S3::Bucket":
            if self.holds_objects(physical_id):
                return
            self.account("s3").delete_bucket(Bucket=physical_id)
        elif kind == "AWS::Glue::Database":
            self.account("glue").delete_database(Name=physical_id)
        self.account.stacks.gone.add(physical_id)


def remaining(account):
    versions = account("s3").list_object_versions(Bucket="raw")
    packages = account("sagemaker").list_model_packages(ModelPackageGroupName="flights")
    return (
        len(versions.get("Versions", [])) + len(versions.get("DeleteMarkers", [])),
        len(account("glue").get_tables(DatabaseName="flights")["TableList"]),
        len(packages["ModelPackageSummaryList"]) - len(account.sagemaker.deleted_packages),
    )


def test_everything_a_run_created_is_removed_before_foundation_goes(account, capsys):
    cdk = Cdk(account)
    assert destroy.main([], clients=account, cdk=cdk, ask=lambda _: "flights-sandbox") == 0
    assert remaining(account) == (0, 0, 0)
    assert account.stacks.stacks == {}
    assert [call[1] for call in cdk.calls] == ["Training", "Foundation"]
    printed = capsys.readouterr().out
    assert "3 object version(s) in s3://raw" in printed
    assert "catalog table flights.curated" in printed
    assert "pending deletion" in printed


@pytest.mark.parametrize("answer", ["", "y", "flights-production"])
def test_nothing_is_touched_without_the_deployments_name(account, answer):
    cdk = Cdk(account)
    assert destroy.main([], clients=account, cdk=cdk, ask=lambda _: answer) == 1
    assert cdk.calls == []
    assert remaining(account) == (3, 1, 1)


@pytest.mark.parametrize("stage", ["sandbox", "production"])
def test_each_cdk_destroy_is_of_the_stage_and_of_the_named_stacks_alone(account, stage):
    account.stacks.stacks = {
        name.replace("sandbox", stage): found for name, found in account.stacks.stacks.items()
    }
    calls = []

    def gone(arguments):
        calls.append(arguments)
        account.stacks.stacks.pop(f"flights-{stage}-{arguments[1].lower()}")
        return 0

    assert destroy.main(["--yes", "--stage", stage], clients=account, cdk=gone) == 0
    options = ["--exclusively", "--force", "--no-notices", "-c", f"stage={stage}"]
    assert calls == [["destroy", "Training", *options], ["destroy", "Foundation", *options]]


def test_account_and_region_are_told_before_the_question(account, capsys):
    asked = []

    def no(_question):
        asked.append(capsys.readouterr().out)
        return ""

    destroy.main([], clients=account, cdk=Cdk(account), ask=no)
    assert "To be deleted in account 123456789012, region us-east-1:" in asked[0]


def test_cdk_is_told_the_region_of_the_list(account, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    ran = []

    def run(command, **options):
        ran.append((command[:3], options["env"]["AWS_REGION"], options["env"]["PATH"]))
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", run)
    assert destroy.main(["--yes"], clients=account) == 1
    assert ran == [(["npx", "--no-install", "cdk"], "us-east-1", os.environ["PATH"])]


def test_what_cdk_left_is_told(account, capsys):
    assert destroy.main(["--yes"], clients=account, cdk=lambda _: 0) == 1
    assert "Still there: Training, Foundation." in capsys.readouterr().err


class Refuses:
    """An account in which one call of one service answers otherwise."""

    def __init__(self, account, service, **answers):
        self.account, self.service, self.answers = account, service, answers

    def __call__(self, service):
        client = self.account(service)
        if service == self.service:
            for name, answer in self.answers.items():
                setattr(client, name, answer)
        return client


def test_a_refused_deletion_ends_it_before_foundation_goes(account):
    def delete_table(**_):
        reason = {"Code": "AccessDeniedException", "Message": "not authorized"}
        raise botocore.exceptions.ClientError({"Error": reason}, "DeleteTable")

    cdk = Cdk(account)
    with pytest.raises(SystemExit, match="not authorized"):
        destroy.main(["--yes"], clients=Refuses(account, "glue", delete_table=delete_table), cdk=cdk)
    assert [call[1] for call in cdk.calls] == ["Training"]


def test_an_object_that_cannot_be_deleted_is_named_and_ends_it_before_foundation_goes(account):
    def delete_objects(**_):
        return {"Errors": [{"Key": "batch/a.csv", "Message": "Access Denied"}, {"Key": "b", "Message": "?"}]}

    cdk = Cdk(account)
    with pytest.raises(SystemExit) as ended:
        destroy.main(["--yes"], clients=Refuses(account, "s3", delete_objects=delete_objects), cdk=cdk)
    assert ended.value.code == "s3://raw/batch/a.csv: Access Denied. 2 object(s) are left."
    assert [call[1] for call in cdk.calls] == ["Training"]


def test_a_failed_cdk_destroy_of_the_writers_leaves_the_data_alone(account):
    assert destroy.main(["--yes"], clients=account, cdk=lambda _: 1) == 1
    assert remaining(account) == (3, 1, 1)


def test_a_second_run_finishes_what_the_first_left(account):
    cdk = Cdk(account)
    refuse_foundation = lambda arguments: 1 if "Foundation" in arguments else cdk(arguments)  # noqa: E731
    assert destroy.main(["--yes"], clients=account, cdk=refuse_foundation) == 1
    assert destroy.main(["--yes"], clients=account, cdk=cdk) == 0
    assert account.stacks.stacks == {}


def test_a_second_run_finishes_a_half_deleted_foundation(account, capsys):
    account.bucket(FOUNDATION, "access", policy=None)
    delete = Cdk(account)

    def an_access_log_arrives_late(arguments):
        if "Foundation" in arguments:
            account("s3").put_object(Bucket="access", Key="late", Body=b"1")
        return delete(arguments)

    assert destroy.main(["--yes"], clients=account, cdk=an_access_log_arrives_late) == 1
    assert [bucket["Name"] for bucket in account("s3").list_buckets()["Buckets"]] == ["access"]
    assert "run this again" in capsys.readouterr().err
    assert destroy.main(["--yes"], clients=account, cdk=delete) == 0
    assert account.stacks.stacks == {}


def test_termination_protection_is_named_with_the_way_to_lift_it(account, capsys):
    account.stacks.protected.add(FOUNDATION)
    assert destroy.main(["--yes"], clients=account, cdk=Cdk(account)) == 1
    assert "foundation.termination_protection" in capsys.readouterr().err
    assert remaining(account) == (3, 1, 1)


def test_production_keeps_its_data(account, capsys):
    account.stacks.stacks = {"flights-production-foundation": account.stacks.stacks[FOUNDATION]}
    gone = lambda _: account.stacks.stacks.clear() or 0  # noqa: E731
    assert destroy.main(["--yes", "--stage", "production"], clients=account, cdk=gone) == 0
    assert remaining(account) == (3, 1, 1)
    printed = capsys.readouterr().out
    assert "Kept, because foundation.retain_data is true" in printed
    assert "pending deletion" not in printed


def test_production_is_asked_for_too(account):
    account.stacks.stacks = {"flights-production-foundation": account.stacks.stacks[FOUNDATION]}
    cdk = Cdk(account)
    assert destroy.main(["--stage", "production"], clients=account, cdk=cdk, ask=lambda _: "yes") == 1
    assert cdk.calls == []


@pytest.fixture
def pipeline(account):
    """A deployed pipeline; the account's SageMaker, in which it runs."""
    account.stacks.add(TRAINING, "AWS::SageMaker::Pipeline", "flights-sandbox")
    return account.sagemaker


def make_model(sagemaker, name):
    role = "arn:aws:iam::123456789012:role/r"
    return sagemaker.create_model(ModelName=name, ExecutionRoleArn=role)["ModelArn"]


def test_models_of_pipeline_runs_are_removed_even_if_the_writers_go_in_two_runs(account, pipeline):
    pipeline.runs = {"run": "Succeeded"}
    pipeline.run_models = {"run": make_model(pipeline, "from-a-run")}

    def training_goes_and_another_stays(_arguments):
        del account.stacks.stacks[TRAINING]
        return 1

    assert destroy.main(["--yes"], clients=account, cdk=training_goes_and_another_stays) == 1
    assert destroy.main(["--yes"], clients=account, cdk=Cdk(account)) == 0
    assert pipeline.list_models()["Models"] == []


def test_running_pipeline_executions_are_stopped_before_their_pipeline_goes(account, pipeline, capsys):
    """SageMaker refuses to delete a pipeline that runs; and what a run makes until it has stopped goes too."""
    pipeline.runs = {"a:execution/1": "Executing", "a:execution/2": "Stopping", "a:execution/3": "Succeeded"}
    waits, cdk = [], Cdk(account)

    def wait(seconds):
        waits.append(seconds)
        assert pipeline.runs["a:execution/1"] == "Stopping"
        if len(waits) == 2:
            pipeline.runs |= {"a:execution/1": "Stopped", "a:execution/2": "Failed"}
            pipeline.run_models = {"a:execution/1": make_model(pipeline, "late")}

    def cdk_of_an_idle_pipeline(arguments):
        assert set(pipeline.runs.values()) == {"Stopped", "Failed", "Succeeded"}
        return cdk(arguments)

    assert destroy.main(["--yes"], clients=account, cdk=cdk_of_an_idle_pipeline, wait=wait) == 0
    assert len(waits) == 2
    assert pipeline.list_models()["Models"] == []
    printed = capsys.readouterr().out
    assert "running pipeline execution 1" in printed
    assert "running pipeline execution 2" in printed
    assert "running pipeline execution 3" not in printed
    assert printed.count("  waiting for 2 pipeline execution(s) to stop") == 2


def test_a_pipeline_execution_that_does_not_stop_ends_it_before_anything_is_deleted(account, pipeline):
    pipeline.runs = {"a:execution/1": "Executing"}
    cdk, waits = Cdk(account), []
    with pytest.raises(SystemExit, match=r"still running after 600 s.*Nothing was deleted"):
        destroy.main(["--yes"], clients=account, cdk=cdk, wait=waits.append)
    assert sum(waits) == 600
    assert cdk.calls == []
    assert remaining(account) == (3, 1, 1)


def test_models_and_endpoint_configs_that_rollouts_replaced_are_removed(account, capsys):
    """Another deployment in the account may have the same tags but one."""
    sagemaker = account("sagemaker")
    for name in ("flights-sandbox", "trains-sandbox"):
        tags = {"project": "flights", "stage": "sandbox", "deployment": name}
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        variant = {"VariantName": "AllTraffic", "ModelName": name}
        fleet = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sagemaker.create_model(
            ModelName=name, ExecutionRoleArn="arn:aws:iam::123456789012:role/r", Tags=listed
        )
        sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[{**variant, **fleet}], Tags=listed
        )
    assert destroy.main(["--yes"], clients=account, cdk=Cdk(account)) == 0
    assert [model["ModelName"] for model in sagemaker.list_models()["Models"]] == ["trains-sandbox"]
    left = sagemaker.list_endpoint_configs()["EndpointConfigs"]
    assert [config["EndpointConfigName"] for config in left] == ["trains-sandbox"]
    assert "endpoint config flights-sandbox" in capsys.readouterr().out


def test_the_endpoints_own_log_groups_are_removed_and_no_other(account):
    logs = account("logs")
    for name in (
        "flights-sandbox",
        "flights-sandbox-serverless",
        "flights-sandbox-async",
        "flights-sandbox-2",
    ):
        logs.create_log_group(logGroupName=f"/aws/sagemaker/Endpoints/{name}")
    assert destroy.main(["--yes"], clients=account, cdk=Cdk(account)) == 0
    (left,) = logs.describe_log_groups()["logGroups"]
    assert left["logGroupName"] == "/aws/sagemaker/Endpoints/flights-sandbox-2"


def test_the_group_waits_until_deleted_versions_are_no_longer_listed(account, monkeypatch):
    leftovers = destroy.look(account, destroy.aws.load_config("sandbox"), [FOUNDATION])
    listings = [["still"], ["still"], []]
    monkeypatch.setattr(destroy, "_packages", lambda *_: listings.pop(0))
    waits = []
    destroy.remove(account, leftovers, wait=waits.append)
    assert waits == [destroy.POLL_SECONDS] * 2


def test_nothing_deployed_is_said_and_is_not_an_error(account, capsys):
    account.stacks.stacks.clear()
    assert destroy.main([], clients=account, cdk=Cdk(account)) == 0
    assert (
        "Nothing of flights-sandbox is deployed in account 123456789012, region us-east-1."
        in capsys.readouterr().out
    )


def test_an_option_that_is_deployed_and_no_longer_listed_stops_it_with_the_remedy(account, capsys):
    account.stacks.add("flights-sandbox-batch", "AWS::SQS::Queue", "queue")
    cdk = Cdk(account)
    assert destroy.main(["--yes"], clients=account, cdk=cdk) == 1
    assert cdk.calls == []
    told = capsys.readouterr().err
    assert told.startswith("Batch is deployed, and options does not list it")
    assert "List it under stages.sandbox.options in cdk.json" in told
