"""The Kinesis data stream that producers write to."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kinesis as kinesis
from aws_cdk import aws_kms as kms
from constructs import Construct

from stacks.acknowledge import acknowledge
from stacks.config import IngestionConfig
from stacks.permissions import allow


class EventStream(kinesis.Stream):
    """One stream, two readers: storage and prediction see the same records at their own pace (Task 1.1).

    A shard takes 1 MiB or 1,000 records a second. PROVISIONED shards are cheaper for a steady load, ON_DEMAND follows
    a load nobody can predict. The retention bounds how long a reader may be down without losing a record.
    """

    def __init__(self, scope: Construct, id: str, *, settings: IngestionConfig, key: kms.IKey) -> None:
        provisioned = settings.stream_mode == "PROVISIONED"
        self._key = key
        super().__init__(
            scope,
            id,
            stream_mode=kinesis.StreamMode.PROVISIONED if provisioned else kinesis.StreamMode.ON_DEMAND,
            shard_count=settings.shard_count if provisioned else None,
            retention_period=cdk.Duration.hours(settings.stream_retention_hours),
            encryption=kinesis.StreamEncryption.KMS,
            encryption_key=key,
            # A buffer, not a store: what must be kept is in the raw bucket within a minute or five.
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        acknowledge(
            self,
            "KDS3",
            "The rule prefers the AWS-managed key for its price; ours is one key for all data, with one policy to review.",
        )

    def let_read(self, role: iam.IRole) -> None:
        """Let `role` read records: `grant_read` adds actions that act on consumers or on no stream at all."""
        allow(
            role,
            [
                "kinesis:DescribeStream",
                "kinesis:DescribeStreamSummary",
                "kinesis:GetRecords",
                "kinesis:GetShardIterator",
                "kinesis:ListShards",
            ],
            [self.stream_arn],
        )
        self._key.grant(role, "kms:Decrypt")
