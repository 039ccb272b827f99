"""A reader of one Kinesis shard inside the server, as Lambda and Firehose read it: in order, as a role, soon."""

from __future__ import annotations

import bisect
import dataclasses
import threading
from typing import Any

from local.cloud import roles, seams
from local.cloud.place import ACCOUNT, REGION

Record = dict[str, Any]
_arrived = threading.Condition()


@dataclasses.dataclass
class Reader:
    """Reads one shard in order, as a role that may read the stream and decrypt with its key.

    `position` is the sequence number of the last record read.
    """

    stream_arn: str
    shard_id: str
    session: roles.Session
    position: str = ""

    def open(self) -> None:
        """Check what a reader of AWS's asks for before the first record; raises `AccessDeniedError`."""
        for action in ("DescribeStream", "DescribeStreamSummary", "ListShards", "GetShardIterator"):
            self.session.authorize(f"kinesis:{action}", self.stream_arn)

    def read(self, limit: int) -> list[Record]:
        """The next records, none at once if there are none; raises `AccessDeniedError`."""
        batch = self._after(limit)
        if not batch:
            return []
        self.session.authorize("kinesis:GetRecords", self.stream_arn)  # and to decrypt: see `authorization`
        self.position = batch[-1]["SequenceNumber"]
        return batch

    def wait(self, seconds: float) -> None:
        """Until something arrives in any stream, or so long."""
        with _arrived:
            if not self._after(1):
                _arrived.wait(seconds)

    def skip_before(self, moment: float) -> None:
        """Read only what arrived from a moment on (seconds of the epoch)."""
        for record in self._records():
            if record["ApproximateArrivalTimestamp"] >= moment:
                break
            self.position = record["SequenceNumber"]

    def _after(self, limit: int) -> list[Record]:
        records = self._records()
        start = bisect.bisect_right(records, self.position, key=lambda record: record["SequenceNumber"])
        return records[start : start + limit]

    def _records(self) -> list[Record]:
        shard: dict[str, list[Record]] = stream(self.stream_arn).get("shards", {}).get(self.shard_id)
        return shard["records"] if shard else []


def stream(arn: str) -> dict[str, Any]:
    """Kinesis' record of a stream; empty if there is none."""
    found = seams.kinesis._streams.get_scoped(ACCOUNT, REGION, arn.rpartition("/")[2])
    return dict(found) if found else {}


def announce(_stream_arn: str, _records: object) -> None:
    """Wake the readers: MiniStack calls this in place of its own Firehose, whenever records were put."""
    with _arrived:
        _arrived.notify_all()
