"""Firehose: every record of the stream, kept as files in the raw bucket."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kinesisfirehose as firehose
from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.acknowledge import acknowledge
from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.ingestion.event_stream import EventStream
from stacks.log_group import LogGroup
from stacks.permissions import allow, read_objects, write_objects

PREFIX, ERROR_PREFIX = "stream/", "stream-errors/"
HOUR = (
    "arrived_year=!{timestamp:yyyy}/arrived_month=!{timestamp:MM}/"
    "arrived_day=!{timestamp:dd}/arrived_hour=!{timestamp:HH}/"
)
_Stream = firehose.CfnDeliveryStream


class Archive(Construct):
    """From stream to data lake without code: buffered, compressed, one folder an hour (Tasks 1.1 and 1.2).

    Folders named `arrived_year=…/arrived_month=…` become partitions of the catalog, so a query reads only the hours it
    asks for; a name that is also a column (flights have a `year`) would give the crawled table that column twice.
    A record that cannot be delivered is kept under the error prefix. The L2 construct would let Firehose delete any
    object of the bucket; this role knows two prefixes ("Grant Firehose access to an Amazon S3 destination").
    """

    def __init__(
        self, scope: Construct, id: str, *, config: Config, foundation: Foundation, stream: EventStream
    ) -> None:
        super().__init__(scope, id)
        log_group = LogGroup(self, "Logs", settings=config.foundation, key=foundation.key)
        role = self._role(foundation, stream, log_group)
        delivery = _Stream(
            self,
            "Firehose",
            delivery_stream_type="KinesisStreamAsSource",
            kinesis_stream_source_configuration=_Stream.KinesisStreamSourceConfigurationProperty(
                kinesis_stream_arn=stream.stream_arn, role_arn=role.role_arn
            ),
            extended_s3_destination_configuration=self._destination(config, foundation, role, log_group),
        )
        # Firehose tries its permissions while it is created.
        delivery.node.add_dependency(role)
        acknowledge(
            delivery,
            "KDF1",
            "With a Kinesis stream as source Firehose keeps no data at rest; AWS refuses the setting, the stream is encrypted.",
        )
        self.delivery_stream_name = delivery.ref

    def _destination(
        self, config: Config, foundation: Foundation, role: iam.IRole, log_group: LogGroup
    ) -> firehose.CfnDeliveryStream.ExtendedS3DestinationConfigurationProperty:
        settings = config.ingestion
        log_stream = logs.CfnLogStream(self, "Delivery", log_group_name=log_group.ref)
        return _Stream.ExtendedS3DestinationConfigurationProperty(
            bucket_arn=foundation.raw.bucket_arn,
            role_arn=role.role_arn,
            prefix=PREFIX + HOUR,
            error_output_prefix=ERROR_PREFIX + "!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd}/",
            compression_format="GZIP",
            encryption_configuration=_Stream.EncryptionConfigurationProperty(
                kms_encryption_config=_Stream.KMSEncryptionConfigProperty(
                    awskms_key_arn=foundation.key.key_arn
                )
            ),
            buffering_hints=_Stream.BufferingHintsProperty(
                interval_in_seconds=settings.firehose_buffer_seconds,
                size_in_m_bs=settings.firehose_buffer_mib,
            ),
            # Kinesis records have no line ends of their own, and JSON objects end to end are no JSON lines.
            processing_configuration=_Stream.ProcessingConfigurationProperty(
                enabled=True, processors=[_Stream.ProcessorProperty(type="AppendDelimiterToRecord")]
            ),
            cloud_watch_logging_options=_Stream.CloudWatchLoggingOptionsProperty(
                enabled=True, log_group_name=log_group.ref, log_stream_name=log_stream.ref
            ),
        )

    def _role(self, foundation: Foundation, stream: EventStream, log_group: LogGroup) -> iam.Role:
        role = iam.Role(
            self,
            "Role",
            description="Firehose copies the stream into the raw bucket",
            assumed_by=iam.ServicePrincipal(
                "firehose.amazonaws.com", conditions={"StringEquals": {"sts:ExternalId": cdk.Aws.ACCOUNT_ID}}
            ),
        )
        stream.let_read(role)
        bucket = foundation.raw
        read_objects(role, bucket, PREFIX, ERROR_PREFIX)
        write_objects(role, bucket, PREFIX, ERROR_PREFIX)
        allow(role, ["s3:GetBucketLocation", "s3:ListBucketMultipartUploads"], [bucket.bucket_arn])
        allow(role, ["logs:PutLogEvents"], [log_group.attr_arn])
        return role
