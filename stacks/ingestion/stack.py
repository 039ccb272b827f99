"""Ingestion: a stream, its archive in the raw bucket, and the consumer that predicts on it."""

import aws_cdk as cdk
from constructs import Construct

from stacks.base import BaseStack
from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.ingestion.archive import ERROR_PREFIX, Archive
from stacks.ingestion.consumer import FAILURE_PREFIX, SERVICE, Consumer
from stacks.ingestion.event_stream import EventStream


class Ingestion(BaseStack):
    """Real time through Kinesis; batches are uploaded to `batch/` of the raw bucket, which tells EventBridge."""

    def __init__(self, scope: Construct, id: str, *, config: Config, foundation: Foundation) -> None:
        super().__init__(scope, id, config=config, description="Real-time and batch ingestion of raw data")
        self.stream = EventStream(self, "Stream", settings=config.ingestion, key=foundation.key)
        archive = Archive(self, "Archive", config=config, foundation=foundation, stream=self.stream)
        self.delivery_stream_name = archive.delivery_stream_name
        consumer = Consumer(self, "Consumer", config=config, foundation=foundation, stream=self.stream)
        self.consumer, self.consumer_service = consumer.function, SERVICE
        self.event_source_mapping_id = consumer.mapping.ref
        # Objects under these prefixes need a person: Monitoring tells one. Not those of refused records, of which a bad
        # hour makes hundreds: an alarm watches their share.
        self.failure_prefixes = (FAILURE_PREFIX, ERROR_PREFIX)
        cdk.CfnOutput(
            self, "StreamName", value=self.stream.stream_name, description="Where producers put records"
        )
