"""Buckets: one safe definition for data, and the one bucket that must differ, for access logs."""

from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.config import Config, FoundationConfig
from stacks.removal_policy import removal_policy


class LogsBucket(s3.Bucket):
    """Receives S3 access logs and VPC flow logs (Task 4.3: auditing).

    SSE-S3, not our key: the log delivery service cannot write server access logs to a bucket whose default
    encryption is SSE-KMS ("Enabling Amazon S3 server access logging", Amazon S3 User Guide).
    """

    def __init__(self, scope: Construct, id: str, *, settings: FoundationConfig) -> None:
        super().__init__(
            scope,
            id,
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="Expire",
                    expiration=cdk.Duration.days(settings.access_log_days),
                    noncurrent_version_expiration=cdk.Duration.days(settings.noncurrent_version_days),
                    abort_incomplete_multipart_upload_after=cdk.Duration.days(1),
                )
            ],
            removal_policy=removal_policy(settings),
        )


class DataBucket(s3.Bucket):
    """Encrypted with our key, TLS only, versioned, logged, never public (Tasks 1.1 and 4.3).

    The bucket key cuts requests to KMS by up to 99 % ("Reducing the cost of SSE-KMS with Amazon S3 Bucket Keys").
    Old versions and abandoned uploads expire, or versioning would in time cost more than the data.
    Never `auto_delete_objects`: it deploys a function that may delete all data. `make destroy` empties instead.
    """

    def __init__(
        self, scope: Construct, id: str, *, key: kms.IKey, logs: s3.IBucket, settings: FoundationConfig
    ) -> None:
        super().__init__(
            scope,
            id,
            encryption=s3.BucketEncryption.KMS,
            encryption_key=key,
            bucket_key_enabled=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            server_access_logs_bucket=logs,
            server_access_logs_prefix=f"s3/{id.lower()}/",
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="Tidy",
                    noncurrent_version_expiration=cdk.Duration.days(settings.noncurrent_version_days),
                    abort_incomplete_multipart_upload_after=cdk.Duration.days(7),
                    expired_object_delete_marker=True,
                )
            ],
            removal_policy=removal_policy(settings),
        )

    def _expire(self, days: int, **prefixes: str) -> None:
        for name, prefix in prefixes.items():
            self.add_lifecycle_rule(id=name, prefix=prefix, expiration=cdk.Duration.days(days))


class CuratedBucket(DataBucket):
    """Tables and reports for good; what models are asked and answer, and rows refused, for a time (Task 4.3).

    These may hold personal data. Requests and answers of batch and asynchronous inference lie under the prefixes of
    their sections, which expire whether or not the option is deployed: nothing is left for ever when it goes.
    """

    def __init__(self, scope: Construct, id: str, *, key: kms.IKey, logs: s3.IBucket, config: Config) -> None:
        super().__init__(scope, id, key=key, logs=logs, settings=config.foundation)
        batch, asynchronous = config.batch, config.asynchronous
        self._expire(
            config.foundation.working_data_days,
            Predictions="predictions/",
            Quarantine="quarantine/",
            BatchInput=batch.input_prefix,
            BatchOutput=batch.output_prefix,
            AsynchronousInput=asynchronous.input_prefix,
            AsynchronousOutput=asynchronous.output_prefix,
            AsynchronousFailure=asynchronous.failure_prefix,
        )


class ArtifactsBucket(DataBucket):
    """Models for good, and for a time what only served to make or watch them (Task 4.2: cost of storage).

    Captured requests may hold personal data, and every execution of the pipeline writes its data sets anew.
    """

    def __init__(
        self, scope: Construct, id: str, *, key: kms.IKey, logs: s3.IBucket, settings: FoundationConfig
    ) -> None:
        super().__init__(scope, id, key=key, logs=logs, settings=settings)
        self._expire(settings.working_data_days, Captured="datacapture/", DataSets="pipeline/Prepare/")


class RawBucket(DataBucket):
    """Where data arrives: events are kept for a time, and EventBridge hears of each new object (Task 1.1).

    The tables to join (`reference/`) stay: nobody sends them again, and without them the ETL cannot run. Transfer
    Acceleration, by config, shortens uploads from far away; it costs extra for each GB.
    """

    def __init__(
        self, scope: Construct, id: str, *, key: kms.IKey, logs: s3.IBucket, settings: FoundationConfig
    ) -> None:
        super().__init__(scope, id, key=key, logs=logs, settings=settings)
        self._expire(
            settings.raw_retention_days,
            Uploads="batch/",
            Stream="stream/",
            StreamErrors="stream-errors/",
            GivenUp="aws/lambda/",
            Quarantine="quarantine/",
        )
        resource = cast("s3.CfnBucket", self.node.default_child)
        # Set on the L1, because the L2's `event_bridge_enabled` deploys a custom resource with a function of its own.
        resource.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(
                event_bridge_enabled=True
            )
        )
        if settings.transfer_acceleration:
            resource.accelerate_configuration = s3.CfnBucket.AccelerateConfigurationProperty(
                acceleration_status="Enabled"
            )
