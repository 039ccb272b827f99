"""What the buckets promise, beyond what tests/support/safeguards.py demands of every bucket."""

from typing import Any

from stacks.config import load
from tests.support import iam
from tests.support.intrinsics import Resolver
from tools.assembly import Assembly, context


def _bucket(assembly: Assembly, id: str) -> dict[str, Any]:
    buckets = assembly.template("Foundation").resources("AWS::S3::Bucket")
    (properties,) = [found["Properties"] for name, found in buckets.items() if name.startswith(id)]
    return properties


def _rules(assembly: Assembly, id: str) -> dict[str, dict[str, Any]]:
    return {rule["Id"]: rule for rule in _bucket(assembly, id)["LifecycleConfiguration"]["Rules"]}


def test_every_bucket_denies_plain_http_for_itself_and_its_objects(each_assembly: Assembly) -> None:
    template = each_assembly.template("Foundation")
    resolver = Resolver(each_assembly, template)
    for policy in template.resources("AWS::S3::BucketPolicy").values():
        bucket = "arn:aws:s3:::" + resolver.strings(policy["Properties"]["Bucket"])[0]
        denied = [
            statement
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]
            if statement["Effect"] == "Deny"
            and statement["Action"] == "s3:*"
            and statement["Principal"] == {"AWS": "*"}
            and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        ]
        assert [resolver.strings(statement["Resource"]) for statement in denied] == [[bucket, f"{bucket}/*"]]


def test_the_raw_bucket_tells_eventbridge(each_assembly: Assembly) -> None:
    notifications = _bucket(each_assembly, "Raw")["NotificationConfiguration"]
    assert notifications == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}


def test_events_working_data_and_what_may_be_personal_expire_tables_and_models_do_not(
    each_assembly: Assembly,
) -> None:
    settings = load(context(each_assembly.stage)).foundation

    def expiring(bucket: str) -> dict[str, int]:
        return {
            rule.get("Prefix", ""): rule["ExpirationInDays"]
            for rule in _rules(each_assembly, bucket).values()
            if "ExpirationInDays" in rule
        }

    days = settings.working_data_days
    events = ("batch/", "stream/", "stream-errors/", "aws/lambda/", "quarantine/")
    assert expiring("Raw") == dict.fromkeys(events, settings.raw_retention_days)
    assert expiring("Artifacts") == {"datacapture/": days, "pipeline/Prepare/": days}
    config = load(context(each_assembly.stage))
    asked = (config.batch.input_prefix, config.asynchronous.input_prefix)
    answered = (config.batch.output_prefix, config.asynchronous.output_prefix)
    failed = config.asynchronous.failure_prefix
    assert expiring("Curated") == dict.fromkeys(
        ("predictions/", "quarantine/", *asked, *answered, failed), days
    )


def test_old_versions_and_abandoned_uploads_expire_everywhere(each_assembly: Assembly) -> None:
    days = load(context(each_assembly.stage)).foundation.noncurrent_version_days
    for name in ("Raw", "Curated", "Artifacts", "Logs"):
        rules = _rules(each_assembly, name).values()
        assert [
            rule["NoncurrentVersionExpiration"] for rule in rules if "NoncurrentVersionExpiration" in rule
        ] == [{"NoncurrentDays": days}]
        assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)


def test_data_buckets_ask_kms_once_a_while_not_once_an_object(each_assembly: Assembly) -> None:
    for name in ("Raw", "Curated", "Artifacts"):
        (rule,) = _bucket(each_assembly, name)["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["BucketKeyEnabled"] is True


def test_access_logs_are_written_by_this_accounts_buckets_only(each_assembly: Assembly) -> None:
    writers = [
        statement
        for statement in iam.statements(each_assembly, each_assembly.template("Foundation"))
        if statement.kind == "resource" and "logging.s3.amazonaws.com" in statement.principals
    ]
    assert len(writers) == 3
    for statement in writers:
        assert statement.actions == ("s3:PutObject",)
        assert statement.condition["StringEquals"]["aws:SourceAccount"]
        assert statement.condition["ArnLike"]["aws:SourceArn"]
