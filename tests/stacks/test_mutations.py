"""The checks can fail: each mutation breaks the templates in one place, and its check has to say so."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stacks import config
from tests.stacks.test_stateful import stateful
from tests.support import iam, safeguards, static
from tests.support.changed import Resources, changed, of_type
from tests.support.synth import offline_environment
from tools.assembly import Assembly, context, run_app

pytestmark = pytest.mark.deep


@dataclasses.dataclass(frozen=True)
class Mutation:
    """What is broken, in which stack, how, and what the check must say."""

    name: str
    stack: str
    change: Callable[[Resources], None]
    said: str


def first(kind: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Resources], None]:
    """Change the properties of the first resource of a type."""

    def apply(resources: Resources) -> None:
        change(of_type(resources, kind)[0])

    return apply


def resource(kind: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Resources], None]:
    """Change the first resource of a type itself, beside its properties."""

    def apply(resources: Resources) -> None:
        change(next(entry for entry in resources.values() if entry["Type"] == kind))

    return apply


def statements(kind: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Resources], None]:
    """Change the first statement of the first policy of a type."""
    return first(kind, lambda properties: change(properties["PolicyDocument"]["Statement"][0]))


def without_tls_deny(resources: Resources) -> None:
    policy = of_type(resources, "AWS::S3::BucketPolicy")[0]["PolicyDocument"]
    policy["Statement"] = [
        entry for entry in policy["Statement"] if "SecureTransport" not in json.dumps(entry)
    ]


def without_access_logs(resources: Resources) -> None:
    for bucket in of_type(resources, "AWS::S3::Bucket"):
        bucket.pop("LoggingConfiguration", None)


def pass_any_role(resources: Resources) -> None:
    for policy in of_type(resources, "AWS::IAM::Policy"):
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Action"] == "iam:PassRole":
                statement["Resource"] = "arn:aws:iam::111122223333:role/*"


SAFEGUARDS = [
    Mutation("no TLS deny on a bucket", "Foundation", without_tls_deny, "accepts requests without TLS"),
    Mutation(
        "no TLS deny on a topic",
        "Monitoring",
        first("AWS::SNS::TopicPolicy", lambda p: p["PolicyDocument"].update(Statement=[])),
        "AWS::SNS::Topic accepts requests without TLS",
    ),
    Mutation(
        "no TLS deny on a queue",
        "Release",
        first("AWS::SQS::QueuePolicy", lambda p: p["PolicyDocument"].update(Statement=[])),
        "AWS::SQS::Queue accepts requests without TLS",
    ),
    Mutation(
        "public access",
        "Foundation",
        first("AWS::S3::Bucket", lambda p: p["PublicAccessBlockConfiguration"].update(BlockPublicAcls=False)),
        "BlockPublicAcls is False",
    ),
    Mutation(
        "no versions",
        "Foundation",
        first("AWS::S3::Bucket", lambda p: p.pop("VersioningConfiguration")),
        "Versioning",
    ),
    Mutation(
        "unencrypted stream",
        "Ingestion",
        first("AWS::Kinesis::Stream", lambda p: p.pop("StreamEncryption")),
        "StreamEncryption.EncryptionType is None",
    ),
    Mutation(
        "AWS's own key on the stream",
        "Ingestion",
        first("AWS::Kinesis::Stream", lambda p: p["StreamEncryption"].update(KeyId="alias/aws/kinesis")),
        "StreamEncryption.KeyId is 'alias/aws/kinesis'",
    ),
    Mutation(
        "logs kept for ever",
        "Ingestion",
        first("AWS::Logs::LogGroup", lambda p: p.pop("RetentionInDays")),
        "Retention",
    ),
    Mutation(
        "unencrypted logs",
        "Release",
        first("AWS::Logs::LogGroup", lambda p: p.pop("KmsKeyId")),
        "LogGroup.KmsKeyId",
    ),
    Mutation(
        "no rotation",
        "Foundation",
        first("AWS::KMS::Key", lambda p: p.pop("EnableKeyRotation")),
        "EnableKeyRotation",
    ),
    Mutation(
        "a key that goes with its stack",
        "Foundation",
        resource("AWS::KMS::Key", lambda r: r.update(DeletionPolicy="Delete")),
        "DeletionPolicy is Delete in a stage that retains data",
    ),
    Mutation(
        "a bucket left to the default",
        "Foundation",
        resource("AWS::S3::Bucket", lambda r: r.pop("UpdateReplacePolicy")),
        "AWS::S3::Bucket has no UpdateReplacePolicy",
    ),
    Mutation(
        "endless retries",
        "Ingestion",
        first("AWS::Lambda::EventSourceMapping", lambda p: p.update(MaximumRetryAttempts=-1)),
        "MaximumRetryAttempts is -1",
    ),
    Mutation(
        "lost records",
        "Ingestion",
        first("AWS::Lambda::EventSourceMapping", lambda p: p.pop("DestinationConfig")),
        "OnFailure.Destination is None",
    ),
    Mutation(
        "a job without encryption",
        "Processing",
        first("AWS::Glue::Job", lambda p: p.pop("SecurityConfiguration")),
        "Glue",
    ),
    Mutation(
        "captured data without a key",
        "Serving",
        first("AWS::SageMaker::EndpointConfig", lambda p: p["DataCaptureConfig"].pop("KmsKeyId")),
        "DataCaptureConfig.KmsKeyId is None",
    ),
    Mutation(
        "an experiment that captures without a key",
        "Experiment",
        first("AWS::SageMaker::EndpointConfig", lambda p: p["DataCaptureConfig"].pop("KmsKeyId")),
        "DataCaptureConfig.KmsKeyId is None",
    ),
    Mutation(
        "no capture at all",
        "Experiment",
        first("AWS::SageMaker::EndpointConfig", lambda p: p.pop("DataCaptureConfig")),
        "DataCaptureConfig.DestinationS3Uri is None",
    ),
    Mutation(
        "answers without a key",
        "Asynchronous",
        first(
            "AWS::SageMaker::EndpointConfig",
            lambda p: p["AsyncInferenceConfig"]["OutputConfig"].pop("KmsKeyId"),
        ),
        "OutputConfig.KmsKeyId is None",
    ),
    Mutation(
        "failures that lie nowhere",
        "Asynchronous",
        first(
            "AWS::SageMaker::EndpointConfig",
            lambda p: p["AsyncInferenceConfig"]["OutputConfig"].pop("S3FailurePath"),
        ),
        "OutputConfig.S3FailurePath is None",
    ),
    Mutation(
        "an unencrypted topic of results",
        "Asynchronous",
        first("AWS::SNS::Topic", lambda p: p.pop("KmsMasterKeyId")),
        "Topic.KmsMasterKeyId is None",
    ),
    Mutation(
        "volumes without a key",
        "Asynchronous",
        first("AWS::SageMaker::EndpointConfig", lambda p: p.pop("KmsKeyId")),
        "EndpointConfig.KmsKeyId is None",
    ),
    Mutation(
        "failed starts for a while only",
        "Batch",
        first("AWS::SQS::Queue", lambda p: p.pop("MessageRetentionPeriod")),
        "MessageRetentionPeriod is None",
    ),
    Mutation(
        "a model that outlives its stack",
        "Batch",
        resource("AWS::SageMaker::Model", lambda r: r.update(DeletionPolicy="Retain")),
        "is to leave nothing behind here",
    ),
    Mutation(
        "an alarm that is silent about silence",
        "Asynchronous",
        first("AWS::CloudWatch::Alarm", lambda p: p.pop("TreatMissingData")),
        "TreatMissingData is None",
    ),
    Mutation(
        "no access log",
        "Foundation",
        without_access_logs,
        "has no access log",
    ),
    Mutation(
        "the internet let in",
        "Foundation",
        first("AWS::EC2::SecurityGroup", lambda p: p.update(SecurityGroupIngress=[{"CidrIp": "0.0.0.0/0"}])),
        "lets the whole internet in",
    ),
    Mutation(
        "no tracing",
        "Release",
        first("AWS::Lambda::Function", lambda p: p.pop("TracingConfig")),
        "TracingConfig.Mode",
    ),
]


IAM = [
    Mutation(
        "a misspelt action",
        "Release",
        statements("AWS::IAM::Policy", lambda s: s.update(Action="s3:GetObjct")),
        "no action",
    ),
    Mutation(
        "an action of another service",
        "Foundation",
        statements("AWS::IAM::Policy", lambda s: s.update(Action="sqs:SendMessage")),
        "sqs:SendMessage does not act on",
    ),
    Mutation(
        "everything",
        "Training",
        statements("AWS::IAM::Policy", lambda s: s.update(Action="s3:*")),
        "everything",
    ),
    Mutation(
        "anybody",
        "Foundation",
        statements("AWS::S3::BucketPolicy", lambda s: s.update(Effect="Allow", Principal="*")),
        "anybody is allowed",
    ),
    Mutation(
        "any role",
        "Foundation",
        pass_any_role,
        "iam:PassRole on a wildcard",
    ),
    Mutation(
        "anybody may fail to start",
        "Batch",
        statements("AWS::SQS::QueuePolicy", lambda s: s.update(Effect="Allow", Principal="*", Condition={})),
        "anybody is allowed",
    ),
    Mutation(
        "a condition that is never met",
        "Processing",
        statements("AWS::IAM::Policy", lambda s: s.update(Condition={"StringEquals": {"aws:SorceArn": "x"}})),
        "no condition key aws:SorceArn",
    ),
]


def named(mutation: Mutation) -> str:
    return mutation.name


@pytest.mark.parametrize("mutation", SAFEGUARDS, ids=named)
def test_a_missing_safeguard_is_reported(mutation: Mutation, complete: Callable[[str], Assembly]) -> None:
    whole = complete("production")
    broken = changed(whole, mutation.stack, mutation.change).template(mutation.stack)
    before = safeguards.findings(whole.template(mutation.stack), retain=True)
    new = set(safeguards.findings(broken, retain=True)) - set(before)
    assert any(mutation.said in finding for finding in new), new


@pytest.mark.parametrize("mutation", IAM, ids=named)
def test_a_wrong_permission_is_reported(mutation: Mutation, complete: Callable[[str], Assembly]) -> None:
    broken = changed(complete("production"), mutation.stack, mutation.change)
    found = [
        finding
        for statement in iam.statements(broken, broken.template(mutation.stack))
        for finding in iam.findings(statement)
    ]
    assert any(mutation.said in finding for finding in found), found


@pytest.mark.parametrize("kind", ["AWS::S3::Bucket", "AWS::Glue::SecurityConfiguration", "AWS::IAM::Role"])
def test_a_sandbox_that_leaves_something_behind_is_reported(
    kind: str, assembly: Callable[[str], Assembly]
) -> None:
    keep = resource(kind, lambda r: r.update(DeletionPolicy="Retain"))
    broken = changed(assembly("sandbox"), "Foundation", keep).template("Foundation")
    assert any("leave nothing behind" in finding for finding in safeguards.findings(broken, retain=False))


def test_an_unexplained_star_is_reported(assembly: Callable[[str], Assembly]) -> None:
    star = statements("AWS::IAM::Policy", lambda s: s.update(Action="s3:GetObject", Resource="*"))
    broken = changed(assembly("sandbox"), "Training", star)
    stars = [
        found for entry in iam.statements(broken, broken.template("Training")) for found in iam.stars(entry)
    ]
    assert "Resource::*" in stars


def test_another_logical_id_of_a_bucket_is_reported(assembly: Callable[[str], Assembly]) -> None:
    def rename(resources: Resources) -> None:
        name = next(name for name, entry in resources.items() if entry["Type"] == "AWS::S3::Bucket")
        resources[f"{name}Renamed"] = resources.pop(name)

    whole = assembly("sandbox")
    assert len(stateful(whole).keys() - stateful(changed(whole, "Foundation", rename)).keys()) == 1


@pytest.mark.parametrize(
    ("stack", "kind", "properties", "rule"),
    [
        ("Release", "AWS::Lambda::Function", {"MemorySize": 64}, "E3034"),
        ("Ingestion", "AWS::Kinesis::Stream", {"Retention": 24}, "E3002"),
        ("Release", "AWS::Lambda::Function", {"Runtime": "python3.2"}, "E"),
        (
            "Training",
            "AWS::IAM::Role",
            {"AssumeRolePolicyDocument": {"Statement": [{"Effect": "Permit"}]}},
            "E",
        ),
        ("Serverless", "AWS::SageMaker::EndpointConfig", {"ServerlessConfig": {}}, "E3002"),
        ("Batch", "AWS::Scheduler::Schedule", {"State": "OFF"}, "E3030"),
        ("Asynchronous", "AWS::ApplicationAutoScaling::ScalingPolicy", {"PolicyType": "Steps"}, "E3030"),
    ],
    ids=["range", "property", "runtime", "policy", "serverless", "schedule", "scaling"],
)
def test_cfn_lint_reports_a_broken_template(
    stack: str,
    kind: str,
    properties: dict[str, Any],
    rule: str,
    complete: Callable[[str], Assembly],
    tmp_path: Path,
) -> None:
    broken = Assembly("sandbox", shutil.copytree(complete("sandbox").path, tmp_path / "broken"))
    path = broken.path / f"{stack}.template.json"
    template = json.loads(path.read_text())
    of_type(template["Resources"], kind)[0].update(properties)
    path.write_text(json.dumps(template))
    assert any(f": {rule}" in finding for finding in static.lint(broken))


# The whole app, and one stack with a fault for each validator and an acknowledgment that nothing needs.
FAULTY = """
import runpy, sys
import aws_cdk as cdk
from aws_cdk import aws_s3 as s3

synth = cdk.App.synth

def with_faults(app):
    stack = cdk.Stack(app, "Faulty")
    cdk.CfnResource(stack, "Wrong", type="AWS::Kinesis::Stream", properties={"Shards": 1})
    s3.CfnBucket(stack, "Bare")
    needless = cdk.Acknowledgment(id="AwsSolutions::AwsSolutions-S99", reason="no longer needed by anything")
    cdk.Validations.of(stack).acknowledge(needless)
    return synth(app)

cdk.App.synth = with_faults
sys.path.insert(0, sys.argv[0].rsplit("/", 1)[0])
runpy.run_path(APP, run_name="__main__")
"""


def test_nag_the_validator_and_a_stale_acknowledgment_are_reported(tmp_path: Path) -> None:
    script = tmp_path / "faulty.py"
    root = Path(config.__file__).parents[1]
    script.write_text(f"APP = {str(root / 'app.py')!r}\n{FAULTY}")
    settings = {**context("sandbox"), "@aws-cdk/core:failSynthOnValidationErrors": False}
    with offline_environment(tmp_path / "connections") as environment:
        path = f"{environment['PYTHONPATH']}:{root}"
        completed = run_app(
            settings, tmp_path / "out", environment={**environment, "PYTHONPATH": path}, app=script
        )
    assert completed.returncode == 0, completed.stderr
    made = Assembly("sandbox", tmp_path / "out")
    report = made.read("validation-report.json")
    found = static.violations(report)
    assert any("Faulty/Bare: AwsSolutions-S10" in finding for finding in found)
    assert any("Faulty/Wrong: F3002" in finding for finding in found)
    used = {acknowledgment for acknowledgment, _ in static.suppressed(report)}
    assert set(static.acknowledged(made)) - used == {("Faulty", "AwsSolutions::AwsSolutions-S99")}
