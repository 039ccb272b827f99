"""From an S3 object to a transform job's requests, and from their answers to the object's `.out`. Pure: bytes and rules.

Sources: "Use Batch Transform" and "Associate Prediction Results with Input Records" (SageMaker AI Developer Guide),
`TransformInput`, `TransformOutput`, `DataProcessing` (API Reference).
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from local.cloud.sagemaker.jsonpath import Path, PathError

Format = Literal["csv", "json"]
FORMATS: dict[str, Format] = {"text/csv": "csv", "application/json": "json", "application/jsonlines": "json"}


class TooLargeError(ValueError):
    """A record, or an object that is not split, above MaxPayloadInMB."""


class RecordError(ValueError):
    """A record or an answer that the filters or the join cannot read."""


def lines(body: bytes) -> list[bytes]:
    """The records of an object, each with its line end; joined they are the object again."""
    return io.BytesIO(body).readlines()


def batches(records: Sequence[bytes], *, single: bool, limit: int) -> Iterator[list[bytes]]:
    """The records of each request, in order: one, or as many as `limit` bytes hold."""
    batch: list[bytes] = []
    size = 0
    for record in records:
        length = len(_bare(record))
        if length > limit:
            raise TooLargeError(f"Too much data for max payload size: {length} bytes, {limit} are allowed.")
        if batch and (single or size + length > limit):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += len(record)
    if batch:
        yield batch


def payload(batch: Sequence[bytes]) -> bytes:
    """A request's body: records on lines of their own, none ended by an empty one."""
    return _bare(b"".join(batch))


def assemble(parts: Iterable[bytes], *, by_line: bool) -> bytes:
    """The output object: `AssembleWith` Line ends every part with a new line, None joins them as they are."""
    if not by_line:
        return b"".join(parts)
    return b"".join(_bare(part) + b"\n" for part in parts)


@dataclasses.dataclass(frozen=True)
class Processing:
    """`DataProcessing`: what of a record the model gets, and what of record and answer is stored."""

    format: Format | None
    input_filter: Path
    output_filter: Path
    join: bool

    @property
    def by_record(self) -> bool:
        """Whether answers are taken apart: each record has one of its own."""
        return self.join or not self.output_filter.whole

    def sent(self, record: bytes) -> bytes:
        """What the model gets of a record."""
        if self.input_filter.whole:
            return record
        end = record[len(_bare(record)) :]
        return self._written(self._selected(self.input_filter, self._read(record))) + end

    def stored(self, records: Sequence[bytes], answer: bytes) -> list[bytes]:
        """The output's parts for one request: its answer, or one a record once it is joined or filtered."""
        if not self.by_record:
            return [answer]
        answers = [answer] if len(records) == 1 else lines(answer)
        if len(answers) != len(records):
            raise RecordError(
                f"{len(answers)} predictions for {len(records)} records: they cannot be joined."
            )
        return [self._stored(record, one) for record, one in zip(records, answers, strict=True)]

    def _stored(self, record: bytes, answer: bytes) -> bytes:
        value = self._read(answer)
        if self.join:
            value = self._joined(self._read(record), value)
        return self._written(self._selected(self.output_filter, value))

    def _joined(self, record: Any, answer: Any) -> Any:
        if self.format == "csv":
            return [*record, *answer]
        given = record if isinstance(record, dict) else {"SageMakerInput": record}
        return {**given, "SageMakerOutput": answer}

    def _selected(self, path: Path, value: Any) -> Any:
        try:
            return path.select(value)
        except PathError as error:
            raise RecordError(str(error)) from None

    def _read(self, record: bytes) -> Any:
        text = _bare(record).decode(errors="replace")
        if self.format == "csv":
            rows = list(csv.reader([text], strict=True)) if text.count('"') % 2 == 0 else []
            if len(rows) != 1 or "\n" in text:
                raise RecordError("a CSV record is one line: embedded new lines are not supported.")
            return rows[0]
        try:
            return json.loads(text)
        except ValueError as error:
            raise RecordError(f"not JSON: {error}") from None

    def _written(self, value: Any) -> bytes:
        if self.format == "csv":
            line = io.StringIO()
            csv.writer(line, lineterminator="").writerow(value if isinstance(value, list) else [value])
            return line.getvalue().encode()
        return json.dumps(value).encode()


def _bare(record: bytes) -> bytes:
    return record.removesuffix(b"\n").removesuffix(b"\r")
