"""What becomes of a batch of the stream: pure decisions, and the loop that asks the model. No AWS client here.

    received = predicted + quarantined + duplicates + skipped (no model yet) + returned

holds for every batch. Records are settled in order. What the service cannot do now (throttled, unreachable, failing)
ends the batch there: that record and all after it go back to Kinesis, which sends them again from that sequence number
("Using Lambda to process records from Amazon Kinesis Data Streams": the lowest one returned is the checkpoint). So
nothing behind a failure is done twice.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lambdas import validation
from pipeline.schema import Schema

# "Body" of InvokeEndpoint (SageMaker Runtime API Reference), in bytes.
MAXIMUM_BODY_BYTES = 6_291_456
# Ours: so many predictions stay far within InvokeEndpoint's 60 seconds.
MAXIMUM_RECORDS = 1_000
# Ours, in bytes: a flight takes less than 1,024. Kinesis allows a thousand times as much.
MAXIMUM_RECORD_BYTES = 65_536

_ENCODER = json.JSONEncoder(separators=(",", ":"))
_OPEN, _CLOSE = b'{"instances":[', b"]}"


@dataclass(frozen=True)
class Received:
    """One Kinesis record: where it stood in the stream (arrival in seconds since 1970, UTC) and its bytes."""

    shard: str
    sequence: str
    arrived: float
    data: bytes


@dataclass(frozen=True)
class Flight:
    """A record fit to be predicted; `position` is its place in the batch, `instance` its part of the request."""

    position: int
    event_id: str
    event_time: str
    instance: bytes


@dataclass
class Triage:
    """A batch before any call: what to ask the model, what to refuse (by position) and why, what came twice."""

    flights: list[Flight] = field(default_factory=list)
    refused: dict[int, list[str]] = field(default_factory=dict)
    duplicates: set[int] = field(default_factory=set)


@dataclass
class Answers:
    """What the model made of the flights; `checkpoint` is the position from which records go back to Kinesis."""

    predicted: list[tuple[Flight, Mapping[str, Any]]] = field(default_factory=list)
    refused: dict[int, list[str]] = field(default_factory=dict)
    skipped: int = 0
    checkpoint: int | None = None


@dataclass(frozen=True)
class Settlement:
    """The end of a batch: every record is in exactly one of these. `again_from` is a sequence number, or None."""

    received: int
    predicted: list[tuple[Flight, Mapping[str, Any]]]
    refused: dict[int, list[str]]
    duplicates: int
    skipped: int
    returned: int
    again_from: str | None


class RefusedError(Exception):
    """The request is at fault: asking again would not help."""


class UnavailableError(Exception):
    """The service is at fault, or busy: asking again later may help."""


class NoModelError(Exception):
    """There is no endpoint: no model has been approved yet."""


# Predicts these flights, one answer each, in order; raises one of the three errors above.
Invoke = Callable[[Sequence[Flight]], Sequence[Mapping[str, Any]]]


def settle(batch: Sequence[Received], schema: Schema, invoke: Invoke) -> Settlement:
    """Decide what becomes of each record of a batch, asking the model by `invoke`."""
    found = triage(batch, schema)
    answers = predict(found.flights, invoke)
    end = len(batch) if answers.checkpoint is None else answers.checkpoint
    refused = found.refused | answers.refused
    return Settlement(
        received=len(batch),
        predicted=answers.predicted,
        refused={position: refused[position] for position in sorted(refused) if position < end},
        duplicates=sum(position < end for position in found.duplicates),
        skipped=answers.skipped,
        returned=len(batch) - end,
        again_from=None if answers.checkpoint is None else batch[end].sequence,
    )


def triage(batch: Sequence[Received], schema: Schema) -> Triage:
    """Judge each record without any call: flight, refused, or an event seen before in this batch."""
    found = Triage()
    seen: set[str] = set()
    for position, received in enumerate(batch):
        if len(received.data) > MAXIMUM_RECORD_BYTES:
            found.refused[position] = ["oversize"]
            continue
        try:
            record = validation.parse(received.data)
        except validation.MalformedError as error:
            found.refused[position] = [error.reason]
            continue
        if reasons := validation.faults(schema, record):
            found.refused[position] = reasons
            continue
        event_id = str(record["event_id"])
        if event_id in seen:
            found.duplicates.add(position)
            continue
        seen.add(event_id)
        instance = _ENCODER.encode(validation.request(schema, record)).encode()
        found.flights.append(Flight(position, event_id, str(record["event_time"]), instance))
    return found


def chunks(flights: Iterable[Flight]) -> list[list[Flight]]:
    """Cut the flights into requests of at most `MAXIMUM_RECORDS` and `MAXIMUM_BODY_BYTES`, in order."""
    cut: list[list[Flight]] = []
    room = 0
    for flight in flights:
        size = len(flight.instance) + 1  # and the comma
        if not cut or len(cut[-1]) == MAXIMUM_RECORDS or size > room:
            cut.append([])
            room = MAXIMUM_BODY_BYTES - len(_OPEN) - len(_CLOSE)
        cut[-1].append(flight)
        room -= size
    return cut


def body(flights: Iterable[Flight]) -> bytes:
    """The request for these flights: `{"instances": [...]}`."""
    return _OPEN + b",".join(flight.instance for flight in flights) + _CLOSE


def predict(flights: Sequence[Flight], invoke: Invoke) -> Answers:
    """Ask the model for every flight, in order, and halve a refused request until the record at fault stands alone.

    One bad record among n costs about 2·log2(n) calls; a model that refuses everything costs 2n - 1.
    """
    answers = Answers()
    waiting = deque(chunks(flights))
    while waiting:
        chunk = waiting.popleft()
        try:
            answers.predicted += zip(chunk, invoke(chunk), strict=True)
        except RefusedError as refusal:
            if len(chunk) == 1:
                answers.refused[chunk[0].position] = [f"refused_by_model: {refusal}"]
            else:
                middle = len(chunk) // 2
                waiting.extendleft([chunk[middle:], chunk[:middle]])
        except NoModelError:
            answers.skipped = len(chunk) + sum(len(rest) for rest in waiting)
            break
        except UnavailableError:
            answers.checkpoint = chunk[0].position
            break
    return answers
