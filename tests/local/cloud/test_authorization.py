"""A call by a role is denied here as AWS denies it: by its own action, and by what the action needs beyond itself."""

import functools
import io
import itertools
import json
import time
import zipfile
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local.cloud import decisions
from local.cloud.place import ACCOUNT, REGION, Place


def packed(code: str) -> bytes:
    """The archive of a function with this code in f.py."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("f.py", code)
    return archive.getvalue()


NUMBERS = itertools.count()
PACKED = packed("def handler(event, context):\n    print('it ran')\n")
Statements = dict[str, Any]


def allow(action: str | list[str], *resources: str, condition: dict[str, Any] | None = None) -> Statements:
    return {"Effect": "Allow", "Action": action, "Resource": list(resources) or ["*"]} | (
        {"Condition": condition} if condition else {}
    )


def glue(resource: str) -> str:
    return f"arn:aws:glue:{REGION}:{ACCOUNT}:{resource}"


@pytest.fixture
def role(client) -> Callable[..., str]:
    """`role(allow("s3:GetObject", ...))`: the ARN of a new role with these statements."""

    def make(*statements: Statements, service: str = "lambda") -> str:
        iam, name = client("iam"), f"tried-{next(NUMBERS)}"
        trust = {"Effect": "Allow", "Action": "sts:AssumeRole"}
        trust |= {"Principal": {"Service": f"{service}.amazonaws.com", "AWS": ACCOUNT}}
        arn: str = iam.create_role(
            RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]})
        )["Role"]["Arn"]
        if statements:
            iam.put_role_policy(
                RoleName=name, PolicyName="p", PolicyDocument=json.dumps({"Statement": statements})
            )
        return arn

    return make


@pytest.fixture
def session(cloud: Place, client) -> Callable[[str, str], Any]:
    """`session("s3", role_arn)`: a client that signs as the role. Never the root user: it passes everything."""

    def get(service: str, role_arn: str) -> Any:
        keys = client("sts").assume_role(RoleArn=role_arn, RoleSessionName="test")["Credentials"]
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=cloud.url,
            verify=str(cloud.certificate),
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"],
        )

    return get


@pytest.fixture
def acting(role, session) -> Callable[..., Any]:
    """`acting("s3", allow(...))`: a client of a new role with these statements."""
    return lambda service, *statements: session(service, role(*statements))


@pytest.fixture
def key(client) -> str:
    arn: str = client("kms").create_key()["KeyMetadata"]["Arn"]
    return arn


@pytest.fixture
def bucket(client) -> str:
    name = f"tried-{next(NUMBERS)}"
    client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def encrypted(client, bucket, key) -> str:
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    client("s3").put_bucket_encryption(
        Bucket=bucket,
        ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": default}]},
    )
    return bucket


def refusal(call: Callable[[], Any]) -> tuple[str, str]:
    """The code and the message of the error that the call must raise."""
    with pytest.raises(ClientError) as raised:
        call()
    return raised.value.response["Error"]["Code"], raised.value.response["Error"]["Message"]


def eventually(condition: Callable[[], Any], seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


# --- a call's own action ---------------------------------------------------------------------------------------------


def test_a_role_without_the_permission_is_denied_with_awss_error(acting, bucket) -> None:
    s3 = acting("s3", allow("s3:GetObject", f"arn:aws:s3:::{bucket}/*"))
    code, message = refusal(lambda: s3.put_object(Bucket=bucket, Key="k", Body=b""))
    assert code == "AccessDenied"
    assert f"is not authorized to perform: s3:PutObject on resource: arn:aws:s3:::{bucket}/k " in message
    assert "because no identity-based policy allows the s3:PutObject action" in message


@pytest.mark.parametrize(
    ("operation", "resource"),
    [
        (lambda glue: glue.get_crawler(Name="mine"), "crawler/mine"),
        (lambda glue: glue.get_job(JobName="mine"), "job/mine"),
        (lambda glue: glue.get_workflow(Name="mine"), "workflow/mine"),
        (lambda glue: glue.get_trigger(Name="mine"), "trigger/mine"),
        (lambda glue: glue.delete_data_quality_ruleset(Name="mine"), "dataQualityRuleset/mine"),
    ],
)
def test_glue_checks_the_arn_of_the_service_authorization_reference(acting, operation, resource) -> None:
    actions = [f"glue:Get{kind}" for kind in ("Crawler", "Job", "Workflow", "Trigger")]
    actions.append("glue:DeleteDataQualityRuleset")
    with pytest.raises(ClientError) as raised:  # it is allowed, and there is no such thing
        operation(acting("glue", allow(actions, glue(resource))))
    assert raised.value.response["Error"]["Code"] != "AccessDeniedException"
    assert (
        refusal(lambda: operation(acting("glue", allow(actions, glue(resource + "s")))))[0]
        == "AccessDeniedException"
    )


def test_a_table_needs_its_database_and_the_catalog_too(acting, client) -> None:
    client("glue").create_database(DatabaseInput={"Name": "d"})
    client("glue").create_table(DatabaseName="d", TableInput={"Name": "t"})
    levels = [glue("table/d/t"), glue("database/d"), glue("catalog")]
    assert (
        acting("glue", allow("glue:GetTable", *levels)).get_table(DatabaseName="d", Name="t")["Table"]["Name"]
        == "t"
    )
    for missing in levels:
        less = acting("glue", allow("glue:GetTable", *(level for level in levels if level != missing)))
        code, message = refusal(lambda less=less: less.get_table(DatabaseName="d", Name="t"))
        assert code == "AccessDeniedException"
        assert "glue:GetTable" in message


def test_a_metric_may_be_put_into_the_namespace_of_the_condition_only(acting) -> None:
    statement = allow(
        "cloudwatch:PutMetricData", condition={"StringEquals": {"cloudwatch:namespace": "Ours"}}
    )
    cloudwatch = acting("cloudwatch", statement)
    data = [{"MetricName": "m", "Value": 1}]
    cloudwatch.put_metric_data(Namespace="Ours", MetricData=data)
    code, _ = refusal(lambda: cloudwatch.put_metric_data(Namespace="Theirs", MetricData=data))
    assert code == "AccessDeniedException"


def test_an_event_may_be_put_under_the_source_and_type_of_the_condition_only(acting) -> None:
    bus = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"
    said = {"events:source": "ours.release", "events:detail-type": "Result"}
    events = acting("events", allow("events:PutEvents", bus, condition={"StringEquals": said}))
    entry = {"Source": "ours.release", "DetailType": "Result", "Detail": "{}"}
    assert events.put_events(Entries=[entry])["FailedEntryCount"] == 0
    for other in ({"Source": "theirs"}, {"DetailType": "Approval"}):
        for entries in ([entry | other], [entry, entry | other]):
            code, _ = refusal(lambda entries=entries: events.put_events(Entries=entries))
            assert code == "AccessDeniedException"


def test_a_version_may_be_written_beside_and_not_approved_under_the_condition(acting, client) -> None:
    sagemaker = client("sagemaker")
    sagemaker.create_model_package_group(ModelPackageGroupName="written-beside")
    package = sagemaker.create_model_package(
        ModelPackageGroupName="written-beside",
        InferenceSpecification={
            "Containers": [{"Image": "image", "ModelDataUrl": "s3://bucket/model.tar.gz"}],
            "SupportedContentTypes": ["text/csv"],
            "SupportedResponseMIMETypes": ["text/csv"],
        },
    )["ModelPackageArn"]
    no_status = {"Null": {"sagemaker:ModelApprovalStatus": "true"}}
    limited = acting("sagemaker", allow("sagemaker:UpdateModelPackage", package, condition=no_status))
    written = {"CustomerMetadataProperties": {"rollout": "in service"}}
    limited.update_model_package(ModelPackageArn=package, **written)
    for status in ("Approved", "Rejected"):
        code, _ = refusal(
            lambda status=status: limited.update_model_package(
                ModelPackageArn=package, ModelApprovalStatus=status, **written
            )
        )
        assert code == "AccessDeniedException"
    sagemaker.delete_model_package(ModelPackageName=package)
    sagemaker.delete_model_package_group(ModelPackageGroupName="written-beside")


def test_alarms_may_be_described_by_the_names_of_the_policy_only(acting) -> None:
    ours = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:ours-*"
    cloudwatch = acting("cloudwatch", allow("cloudwatch:DescribeAlarms", ours))
    assert cloudwatch.describe_alarms(AlarmNames=["ours-Errors"], StateValue="ALARM")["MetricAlarms"] == []
    for asked in ({"AlarmNames": ["theirs"]}, {}):
        assert refusal(lambda asked=asked: cloudwatch.describe_alarms(**asked))[0] == "AccessDeniedException"


def test_tags_may_be_given_while_something_is_made_and_not_to_what_exists_under_the_condition(
    acting, client
) -> None:
    name, tags = "tagged-when-made", [{"Key": "deployment", "Value": "ours"}]
    group = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package-group/{name}"
    making = {"StringEquals": {"sagemaker:TaggingAction": "CreateModelPackageGroup"}}
    limited = acting(
        "sagemaker",
        allow("sagemaker:CreateModelPackageGroup", group),
        allow("sagemaker:AddTags", group, condition=making),
    )
    limited.create_model_package_group(ModelPackageGroupName=name, Tags=tags)
    code, _ = refusal(lambda: limited.add_tags(ResourceArn=group, Tags=tags))
    assert code == "AccessDeniedException"
    client("sagemaker").delete_model_package_group(ModelPackageGroupName=name)


@pytest.mark.parametrize("key", ["service-namespace", "scalable-dimension"])
def test_what_is_scaled_is_known_to_the_policy_and_what_is_not_named_there_is_refused(
    acting, key: str
) -> None:
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/known/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    names = {"service-namespace": "ServiceNamespace", "scalable-dimension": "ScalableDimension"}
    steps = {
        "AdjustmentType": "ChangeInCapacity",
        "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
    }
    policy = {"PolicyName": "p"}
    action = {"ScheduledActionName": "s"}
    calls = {
        "register_scalable_target": {"MinCapacity": 1, "MaxCapacity": 2},
        "put_scaling_policy": policy | {"PolicyType": "StepScaling", "StepScalingPolicyConfiguration": steps},
        "put_scheduled_action": action
        | {"Schedule": "rate(1 day)", "ScalableTargetAction": {"MinCapacity": 1}},
        "delete_scheduled_action": action,
        "delete_scaling_policy": policy,
        "deregister_scalable_target": {},
    }

    def scaling(value: str) -> Any:
        only = {"StringEquals": {f"application-autoscaling:{key}": value}}
        return acting(
            "application-autoscaling",
            allow("application-autoscaling:*", condition=only),
            allow(["sagemaker:*", "iam:CreateServiceLinkedRole"]),
        )

    ours, theirs = scaling(target[names[key]]), scaling("ecs")
    for operation, given in calls.items():
        code, said = refusal(lambda call=operation, given=given: getattr(theirs, call)(**target, **given))
        assert code == "AccessDeniedException", said
        getattr(ours, operation)(**target, **given)


def test_a_log_stream_is_checked_as_a_stream_of_its_group(acting, client) -> None:
    client("logs").create_log_group(logGroupName="/ours")
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/ours"
    logs = acting("logs", allow("logs:CreateLogStream", f"{group}:*"))  # as Fn::GetAtt LogGroup.Arn gives it
    logs.create_log_stream(logGroupName="/ours", logStreamName="s")
    other = acting("logs", allow("logs:CreateLogStream", f"{group}:log-stream:other"))
    assert refusal(lambda: other.create_log_stream(logGroupName="/ours", logStreamName="t"))[0] == (
        "AccessDeniedException"
    )


def test_a_service_of_ours_names_the_resource_in_its_denial(acting) -> None:
    group = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package-group/ours"
    sagemaker = acting("sagemaker", allow("sagemaker:DescribeModelPackageGroup", group))
    code, message = refusal(lambda: sagemaker.describe_model_package_group(ModelPackageGroupName="theirs"))
    assert code == "AccessDeniedException"
    theirs = group.replace("ours", "theirs")
    action = "sagemaker:DescribeModelPackageGroup"
    assert f"is not authorized to perform: {action} on resource: {theirs} because no identity" in message
    assert message.endswith(f"allows the {action} action")


def test_an_explicit_denial_says_so(acting) -> None:
    denied = allow("sagemaker:*") | {"Effect": "Deny"}
    sagemaker = acting("sagemaker", allow("sagemaker:*"), denied)
    _, message = refusal(sagemaker.list_model_package_groups)
    assert message.endswith("with an explicit deny in an identity-based policy")


def test_a_condition_on_a_resources_tag_sees_sagemakers_tags(acting, client) -> None:
    for name in ("ours", "theirs"):
        tags = [{"Key": "project", "Value": name}]
        client("sagemaker").create_model_package_group(ModelPackageGroupName=name, Tags=tags)
    tagged = {"StringEquals": {"aws:ResourceTag/project": "ours"}}
    sagemaker = acting("sagemaker", allow("sagemaker:DeleteModelPackageGroup", condition=tagged))
    sagemaker.delete_model_package_group(ModelPackageGroupName="ours")
    code, _ = refusal(lambda: sagemaker.delete_model_package_group(ModelPackageGroupName="theirs"))
    assert code == "AccessDeniedException"


# --- what stands behind it -------------------------------------------------------------------------------------------


class TestUpdateStack:
    """The release function's permission is bound to one role, which it must also be able to pass."""

    @pytest.fixture
    def stack(self, client) -> str:
        name = f"tried-{next(NUMBERS)}"
        body = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
        client("cloudformation").create_stack(StackName=name, TemplateBody=json.dumps(body))
        client("cloudformation").get_waiter("stack_create_complete").wait(StackName=name)
        return name

    @pytest.fixture
    def update_role(self, role) -> str:
        return role(allow("sns:*"), service="cloudformation")

    @pytest.fixture
    def update(self, update_role) -> Statements:
        return allow(
            "cloudformation:UpdateStack",
            f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/*",
            condition={"StringEquals": {"cloudformation:RoleArn": update_role}},
        )

    @pytest.fixture
    def passing(self, update_role) -> Statements:
        service = {"StringEquals": {"iam:PassedToService": "cloudformation.amazonaws.com"}}
        return allow("iam:PassRole", update_role, condition=service)

    @staticmethod
    def changed(name: str) -> dict[str, str]:
        body = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": "x"}}}}
        return {"StackName": name, "TemplateBody": json.dumps(body)}

    def test_with_the_role_it_is_accepted(self, acting, stack, update, passing, update_role, client) -> None:
        acting("cloudformation", update, passing).update_stack(**self.changed(stack), RoleARN=update_role)
        client("cloudformation").get_waiter("stack_update_complete").wait(StackName=stack)

    def test_without_a_role_it_is_denied(self, acting, stack, update, passing) -> None:
        cloudformation = acting("cloudformation", update, passing)
        code, message = refusal(lambda: cloudformation.update_stack(**self.changed(stack)))
        assert code == "AccessDenied"
        assert "cloudformation:UpdateStack" in message

    def test_with_another_role_it_is_denied(self, acting, stack, update, passing, role) -> None:
        other = role(allow("*"), service="cloudformation")
        cloudformation = acting("cloudformation", update, passing)
        code, message = refusal(lambda: cloudformation.update_stack(**self.changed(stack), RoleARN=other))
        assert code == "AccessDenied"
        assert "cloudformation:UpdateStack" in message

    def test_who_may_not_pass_the_role_is_denied(self, acting, stack, update, update_role) -> None:
        cloudformation = acting("cloudformation", update)
        code, message = refusal(
            lambda: cloudformation.update_stack(**self.changed(stack), RoleARN=update_role)
        )
        assert code == "AccessDenied"
        assert f"is not authorized to perform: iam:PassRole on resource: {update_role}" in message


IDS: dict[str, str] = {}  # of what `known` made: numbers that depend on what others made before
ROLE_TAKERS: dict[str, tuple[str, Callable[[Any, str, str], Any]]] = {
    "lambda:CreateFunction": (
        "lambda",
        lambda aws, name, role: aws.create_function(
            FunctionName=name, Role=role, Runtime="python3.11", Handler="f.handler", Code={"ZipFile": PACKED}
        ),
    ),
    "lambda:UpdateFunctionConfiguration": (
        "lambda",
        lambda aws, _, role: aws.update_function_configuration(FunctionName="known", Role=role),
    ),
    "events:PutTargets": (
        "events",
        lambda aws, _, role: aws.put_targets(
            Rule="known",
            Targets=[
                {"Id": "a", "Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"},
                {"Id": "b", "Arn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:pipeline/p", "RoleArn": role},
            ],
        ),
    ),
    "glue:CreateCrawler": (
        "glue",
        lambda aws, name, role: aws.create_crawler(
            Name=name, Role=role, DatabaseName="d", Targets={"S3Targets": [{"Path": "s3://nowhere/"}]}
        ),
    ),
    "glue:CreateJob": (
        "glue",
        lambda aws, name, role: aws.create_job(
            Name=name,
            Role=role.rpartition("/")[2],
            Command={"Name": "glueetl", "ScriptLocation": "s3://n/x.py"},
        ),
    ),
    "glue:UpdateJob": (
        "glue",
        lambda aws, _, role: aws.update_job(
            JobName="known",
            JobUpdate={"Role": role, "Command": {"Name": "glueetl", "ScriptLocation": "s3://n/x.py"}},
        ),
    ),
    "glue:UpdateCrawler": ("glue", lambda aws, _, role: aws.update_crawler(Name="known", Role=role)),
    "firehose:UpdateDestination": (
        "firehose",
        lambda aws, _, role: aws.update_destination(
            DeliveryStreamName="known",
            CurrentDeliveryStreamVersionId="1",
            DestinationId=IDS["destination"],
            ExtendedS3DestinationUpdate={"RoleARN": role},
        ),
    ),
    "firehose:CreateDeliveryStream": (
        "firehose",
        lambda aws, name, role: aws.create_delivery_stream(
            DeliveryStreamName=name,
            ExtendedS3DestinationConfiguration={"RoleARN": role, "BucketARN": "arn:aws:s3:::nowhere"},
        ),
    ),
    "scheduler:UpdateSchedule": (
        "scheduler",
        lambda aws, _, role: aws.update_schedule(
            Name="known",
            ScheduleExpression="rate(1 day)",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target={"Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:q", "RoleArn": role},
        ),
    ),
    "scheduler:CreateSchedule": (
        "scheduler",
        lambda aws, name, role: aws.create_schedule(
            Name=name,
            ScheduleExpression="rate(1 day)",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target={"Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:q", "RoleArn": role},
        ),
    ),
}


@pytest.fixture(scope="module")
def known(client) -> None:
    """What the calls change: one of each that takes a role, and a rule."""
    trust = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"Service": "lambda.amazonaws.com"},
    }
    role = client("iam").create_role(
        RoleName="known", AssumeRolePolicyDocument=json.dumps({"Statement": [trust]})
    )["Role"]["Arn"]
    client("events").put_rule(Name="known", ScheduleExpression="rate(1 day)", State="DISABLED")
    for service, call in (ROLE_TAKERS[action] for action in ROLE_TAKERS if ":Create" in action):
        call(client(service), "known", role)
    stream = client("firehose").describe_delivery_stream(DeliveryStreamName="known")
    IDS["destination"] = stream["DeliveryStreamDescription"]["Destinations"][0]["DestinationId"]


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("action", ROLE_TAKERS)
def test_who_hands_a_role_to_a_service_must_be_able_to_pass_it(acting, role, action) -> None:
    (service, call), passed = ROLE_TAKERS[action], role()
    code, message = refusal(lambda: call(acting(service, allow(action)), f"tried-{next(NUMBERS)}", passed))
    assert code.startswith("AccessDenied")
    assert f"is not authorized to perform: iam:PassRole on resource: {passed}" in message
    to_service = {"StringEquals": {"iam:PassedToService": f"{service}.amazonaws.com"}}
    passing = allow("iam:PassRole", passed, condition=to_service)
    call(acting(service, allow(action), passing), f"tried-{next(NUMBERS)}", passed)


class TestKeys:
    """Encrypted data needs its key, for the caller itself."""

    def objects(self, bucket: str) -> Statements:
        return allow(["s3:GetObject", "s3:PutObject"], f"arn:aws:s3:::{bucket}/*")

    def test_reading_and_writing_an_encrypted_object_needs_the_key(self, acting, encrypted, key) -> None:
        writer = acting("s3", self.objects(encrypted), allow("kms:GenerateDataKey", key))
        writer.put_object(Bucket=encrypted, Key="k", Body=b"x")
        code, message = refusal(lambda: writer.get_object(Bucket=encrypted, Key="k"))
        assert code == "AccessDenied"
        assert f"is not authorized to perform: kms:Decrypt on resource: {key}" in message
        reader = acting("s3", self.objects(encrypted), allow("kms:Decrypt", key))
        assert reader.get_object(Bucket=encrypted, Key="k")["Body"].read() == b"x"
        assert "kms:GenerateDataKey" in refusal(lambda: reader.put_object(Bucket=encrypted, Key="k"))[1]

    def test_an_upload_in_parts_needs_to_decrypt_as_well(self, acting, encrypted, key) -> None:
        s3 = acting("s3", self.objects(encrypted), allow("kms:GenerateDataKey", key))
        code, message = refusal(lambda: s3.create_multipart_upload(Bucket=encrypted, Key="k"))
        assert (code, "kms:Decrypt" in message) == ("AccessDenied", True)

    def test_an_unencrypted_bucket_needs_no_key(self, acting, bucket) -> None:
        s3 = acting("s3", self.objects(bucket))
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"

    @pytest.mark.parametrize("kind", ["bucket", "encrypted"])
    def test_the_key_that_a_request_names_counts_not_the_buckets(self, acting, client, request, kind) -> None:
        name, named = request.getfixturevalue(kind), client("kms").create_key()["KeyMetadata"]["Arn"]
        given = {"Bucket": name, "Key": "k", "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": named}
        code, message = refusal(lambda: acting("s3", self.objects(name)).put_object(**given))
        assert (code, f"kms:GenerateDataKey on resource: {named}" in message) == ("AccessDenied", True)
        s3 = acting("s3", self.objects(name), allow(["kms:GenerateDataKey", "kms:Decrypt"], named))
        s3.put_object(**given, Body=b"x")
        assert s3.get_object(Bucket=name, Key="k")["Body"].read() == b"x"
        upload = s3.create_multipart_upload(**given)["UploadId"]
        part = {"Bucket": name, "Key": "k", "UploadId": upload, "PartNumber": 1, "Body": b"x"}
        s3.upload_part(**part)
        without = acting("s3", self.objects(name))
        assert f"resource: {named}" in refusal(lambda: without.upload_part(**part))[1]

    def test_the_key_that_a_request_names_is_a_condition_key(self, acting, bucket, key) -> None:
        names = {"StringEquals": {"s3:x-amz-server-side-encryption-aws-kms-key-id": key}}
        put = allow("s3:PutObject", f"arn:aws:s3:::{bucket}/*", condition=names)
        s3 = acting("s3", put, allow("kms:GenerateDataKey", key))
        s3.put_object(Bucket=bucket, Key="k", ServerSideEncryption="aws:kms", SSEKMSKeyId=key)
        assert "s3:PutObject" in refusal(lambda: s3.put_object(Bucket=bucket, Key="k"))[1]

    def test_a_request_for_s3s_own_key_needs_none(self, acting, encrypted) -> None:
        acting("s3", self.objects(encrypted)).put_object(
            Bucket=encrypted, Key="k", ServerSideEncryption="AES256"
        )

    def test_an_object_is_written_with_the_buckets_key_whatever_it_replaces(
        self, acting, client, encrypted, key
    ) -> None:
        client("s3").put_object(Bucket=encrypted, Key="k", ServerSideEncryption="AES256")
        s3 = acting("s3", self.objects(encrypted))
        assert s3.get_object(Bucket=encrypted, Key="k")["Body"].read() == b""
        message = refusal(lambda: s3.put_object(Bucket=encrypted, Key="k"))[1]
        assert f"kms:GenerateDataKey on resource: {key}" in message

    def test_records_are_read_with_the_rights_on_the_iterators_stream(self, acting, client, key) -> None:
        streams = [f"tried-{next(NUMBERS)}" for _ in range(2)]
        arns = [f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{name}" for name in streams]
        for name in streams:
            client("kinesis").create_stream(StreamName=name, ShardCount=1)
        client("kinesis").start_stream_encryption(StreamName=streams[0], EncryptionType="KMS", KeyId=key)
        iterator = client("kinesis").get_shard_iterator(
            StreamName=streams[0], ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        read, other = (allow("kinesis:GetRecords", arn) for arn in arns)
        decrypt = allow("kms:Decrypt", key)
        reader = acting("kinesis", read, decrypt)
        assert reader.get_records(ShardIterator=iterator)["Records"] == []
        code, message = refusal(lambda: acting("kinesis", read).get_records(ShardIterator=iterator))
        assert (code, "kms:Decrypt" in message) == ("KMSAccessDeniedException", True)
        stranger = acting("kinesis", other, decrypt)
        for given in ({}, {"StreamARN": arns[1]}):
            call = functools.partial(stranger.get_records, ShardIterator=iterator, **given)
            assert f"kinesis:GetRecords on resource: {arns[0]}" in refusal(call)[1]

    def test_an_encrypted_stream_needs_the_key(self, acting, client, key) -> None:
        client("kinesis").create_stream(StreamName="encrypted", ShardCount=1)
        client("kinesis").start_stream_encryption(StreamName="encrypted", EncryptionType="KMS", KeyId=key)
        record = {"StreamName": "encrypted", "Data": b"x", "PartitionKey": "p"}
        put = allow("kinesis:PutRecord", f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/encrypted")
        acting("kinesis", put, allow("kms:GenerateDataKey", key)).put_record(**record)
        code, message = refusal(lambda: acting("kinesis", put).put_record(**record))
        assert code == "KMSAccessDeniedException"
        assert "kms:GenerateDataKey" in message

    def test_an_encrypted_queue_and_topic_need_the_key(self, acting, client, key) -> None:
        attributes = {"KmsMasterKeyId": key}
        queue = client("sqs").create_queue(QueueName="encrypted", Attributes=attributes)["QueueUrl"]
        topic = client("sns").create_topic(Name="encrypted", Attributes=attributes)["TopicArn"]
        uses = allow(["kms:Decrypt", "kms:GenerateDataKey"], key)
        acting("sqs", allow("sqs:SendMessage"), uses).send_message(QueueUrl=queue, MessageBody="m")
        acting("sns", allow("sns:Publish"), uses).publish(TopicArn=topic, Message="m")
        sqs, sns = acting("sqs", allow("sqs:*")), acting("sns", allow("sns:*"))
        assert "KmsAccessDenied" in refusal(lambda: sqs.send_message(QueueUrl=queue, MessageBody="m"))[0]
        assert refusal(lambda: sns.publish(TopicArn=topic, Message="m"))[0] == "KMSAccessDenied"
        messages = [{"Id": "a", "MessageBody": "m"}]
        batch = functools.partial(sqs.send_message_batch, QueueUrl=queue, Entries=messages)
        assert "KmsAccessDenied" in refusal(batch)[0]
        batch = functools.partial(
            sns.publish_batch, TopicArn=topic, PublishBatchRequestEntries=[{"Id": "a", "Message": "m"}]
        )
        assert refusal(batch)[0] == "KMSAccessDenied"


def test_a_batch_needs_the_permission_of_its_single_action(acting, client) -> None:
    queue = client("sqs").create_queue(QueueName="batches")["QueueUrl"]
    topic = client("sns").create_topic(Name="batches")["TopicArn"]
    single = ["SendMessage", "ReceiveMessage", "ChangeMessageVisibility", "DeleteMessage"]
    sqs = acting("sqs", allow([f"sqs:{name}" for name in single]))
    assert sqs.send_message_batch(QueueUrl=queue, Entries=[{"Id": "a", "MessageBody": "m"}])["Successful"]
    (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    entry = {"Id": "a", "ReceiptHandle": message["ReceiptHandle"]}
    sqs.change_message_visibility_batch(QueueUrl=queue, Entries=[entry | {"VisibilityTimeout": 0}])
    sqs.delete_message_batch(QueueUrl=queue, Entries=[entry])
    entries = [{"Id": "a", "Message": "m"}]
    sns = acting("sns", allow("sns:Publish"))
    assert sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)["Successful"]
    reader = acting("sqs", allow("sqs:ReceiveMessage"))
    message = refusal(
        lambda: reader.send_message_batch(QueueUrl=queue, Entries=[{"Id": "a", "MessageBody": "m"}])
    )[1]
    assert "is not authorized to perform: sqs:SendMessage on resource" in message


# --- what Lambda does with a function's role ---------------------------------------------------------------------------

LOGS = allow(["logs:CreateLogStream", "logs:PutLogEvents"], f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:*")
QUEUE = allow(["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"])


@pytest.fixture
def function(client, role) -> Callable[..., str]:
    def make(*statements: Statements, **settings: Any) -> str:
        name = f"tried-{next(NUMBERS)}"
        client("lambda").create_function(
            FunctionName=name,
            Role=role(*statements),
            Runtime="python3.11",
            Handler="f.handler",
            Code={"ZipFile": PACKED},
            **settings,
        )
        client("lambda").get_waiter("function_active_v2").wait(FunctionName=name)
        return name

    return make


def logged(client, name: str) -> bool:
    found = client("logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{name}")["logGroups"]
    return bool(found)


def test_a_function_logs_if_its_role_may(client, function) -> None:
    may, may_not = function(LOGS), function()
    for name in (may, may_not):
        client("lambda").invoke(FunctionName=name)
    assert logged(client, may)
    assert not logged(client, may_not)


@pytest.mark.parametrize(
    "missing",
    [
        None,
        "sqs:ReceiveMessage",
        pytest.param("sqs:DeleteMessage", marks=pytest.mark.deep),
        pytest.param("kms:Decrypt", marks=pytest.mark.deep),
    ],
)
def test_a_mapping_reads_its_queue_with_the_functions_role(client, function, key, missing) -> None:
    granted = [*QUEUE["Action"], "kms:Decrypt"]
    name = function(LOGS, allow([action for action in granted if action != missing]))
    tls = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*"}
    tls |= {"Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    attributes = {"KmsMasterKeyId": key, "Policy": json.dumps({"Statement": [tls]})}
    queue = client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    client("lambda").create_event_source_mapping(
        FunctionName=name, EventSourceArn=f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
    )
    client("sqs").send_message(QueueUrl=queue, MessageBody="m")
    if missing:
        assert not eventually(lambda: logged(client, name), seconds=2.5)
    else:
        assert eventually(lambda: logged(client, name))


# --- the record --------------------------------------------------------------------------------------------------------


def test_every_decision_is_on_record_with_what_it_rests_on(
    cloud, client, role, session, function, encrypted, key
) -> None:
    arn = role(allow("s3:PutObject", f"arn:aws:s3:::{encrypted}/*"))
    refusal(lambda: session("s3", arn).put_object(Bucket=encrypted, Key="k", Body=b""))
    name = function(LOGS, TracingConfig={"Mode": "Active"})
    client("lambda").invoke(FunctionName=name)
    found = decisions.read(cloud.folder / decisions.FILE)
    asked = [d for d in found if arn.endswith(f"/{d.role}")]
    assert [(d.action, d.resource, d.allowed) for d in asked] == [
        ("s3:PutObject", f"arn:aws:s3:::{encrypted}/k", True),
        ("kms:GenerateDataKey", key, False),
    ]
    assert asked[1].context == {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}
    of_function = {(d.action, d.allowed) for d in found if d.principal.endswith(f"/{name}")}
    assert of_function == {
        ("xray:PutTraceSegments", False),
        ("xray:PutTelemetryRecords", False),
        ("logs:CreateLogStream", True),
        ("logs:PutLogEvents", True),
    }
