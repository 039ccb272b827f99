"""An object is cut into requests and put together again: nothing is lost, doubled or out of order."""

import csv
import io
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.cloud.sagemaker.jsonpath import Path
from local.cloud.sagemaker.split import (
    Format,
    Processing,
    RecordError,
    TooLargeError,
    assemble,
    batches,
    lines,
    payload,
)

BODY = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r\n", b",", b'"', b"\xff"]), max_size=30).map(
    b"".join
)


@settings(derandomize=True, database=None)
@given(body=BODY, strategy=st.sampled_from(["SingleRecord", "MultiRecord"]), limit=st.integers(30, 60))
def test_what_is_split_joins_to_the_same_bytes(body: bytes, strategy: str, limit: int) -> None:
    single = strategy == "SingleRecord"
    requests = list(batches(lines(body), single=single, limit=limit))
    assert b"".join(record for batch in requests for record in batch) == body
    assert all(len(payload(batch)) <= limit for batch in requests)
    assert not single or all(len(batch) == 1 for batch in requests)


@settings(derandomize=True, database=None)
@given(body=BODY, limit=st.integers(30, 60))
def test_a_batch_is_as_full_as_the_payload_allows(body: bytes, limit: int) -> None:
    requests = list(batches(lines(body), single=False, limit=limit))
    for batch, following in itertools.pairwise(requests):
        assert len(payload([*batch, following[0]])) > limit


@settings(derandomize=True, database=None)
@given(
    st.lists(st.lists(st.text(alphabet='ab,"; ', max_size=4), min_size=2, max_size=4), min_size=1, max_size=5)
)
def test_a_joined_row_begins_with_the_row_that_was_sent(rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    stored = processing("csv", join=True).stored(lines(text.getvalue().encode()), b"0.5\n" * len(rows))
    assert list(csv.reader(line.decode() for line in stored)) == [[*row, "0.5"] for row in rows]


def processing(
    form: Format | None, input_filter: str = "$", output_filter: str = "$", *, join: bool = False
) -> Processing:
    return Processing(form, Path(input_filter), Path(output_filter), join)


def test_an_object_that_is_not_split_is_one_request_byte_for_byte() -> None:
    assert list(batches([b"a\nb\n"], single=False, limit=9)) == [[b"a\nb\n"]]


def test_a_record_above_the_payload_is_refused() -> None:
    with pytest.raises(TooLargeError, match="Too much data for max payload size: 5 bytes, 4 are allowed"):
        list(batches([b"1\n", b"12345\n"], single=False, limit=4))


@pytest.mark.parametrize(
    ("assemble_with", "output"), [("Line", b"0.1\n0.2\n0.3\n"), ("None", b"0.1\n0.20.3\n")]
)
def test_parts_are_assembled_as_asked(assemble_with: str, output: bytes) -> None:
    assert assemble([b"0.1\n0.2", b"0.3\n"], by_line=assemble_with == "Line") == output


# "Batch Transform Examples": the answers to the records of one request become these lines.
EXAMPLES = [
    (processing("csv"), [b"1,2,3\n"], b"0.9", [b"0.9"]),
    (processing("csv", join=True), [b"1,2,3\n"], b"1", [b"1,2,3,1"]),
    (
        processing("csv", "$[1:]", "$[0,-1]", join=True),
        [b"7,1\n", b"8,2"],
        b"0.1\n0.2\n",
        [b"7,0.1", b"8,0.2"],
    ),
    (processing("csv", output_filter="$[-1]"), [b"1\n", b"2\n"], b"0.1,0\n0.9,1\n", [b"0", b"1"]),
    (
        processing("json", join=True),
        [b'{"key": 1}'],
        b'{"label": 1}',
        [b'{"key": 1, "SageMakerOutput": {"label": 1}}'],
    ),
    (processing("json", join=True), [b"[1]"], b"[2]", [b'{"SageMakerInput": [1], "SageMakerOutput": [2]}']),
    (
        processing("json", "$.features", "$['id','SageMakerOutput']", join=True),
        [b'{"id": 4, "features": [1]}'],
        b"0.5",
        [b'{"id": 4, "SageMakerOutput": 0.5}'],
    ),
]


@pytest.mark.parametrize(("rules", "records", "answer", "stored"), EXAMPLES)
def test_records_and_answers_become_the_documented_output(
    rules: Processing, records: list[bytes], answer: bytes, stored: list[bytes]
) -> None:
    assert rules.stored(records, answer) == stored


@pytest.mark.parametrize(
    ("rules", "record", "sent"),
    [
        (processing("csv", "$[1:]"), b'7,"a,b",2\r\n', b'"a,b",2\r\n'),
        (processing("csv", "$[1]"), b"7,8", b"8"),
        (processing("csv"), b"7, 8 \n", b"7, 8 \n"),
        (processing("json", "$.features"), b'{"features": [1, 2]}\n', b"[1, 2]\n"),
    ],
)
def test_the_model_gets_what_the_input_filter_selects(rules: Processing, record: bytes, sent: bytes) -> None:
    assert rules.sent(record) == sent


def test_other_answers_than_records_cannot_be_joined() -> None:
    with pytest.raises(RecordError, match="1 predictions for 2 records"):
        processing("csv", join=True).stored([b"1\n", b"2\n"], b"0.1\n")


@pytest.mark.parametrize(
    ("rules", "record", "reason"),
    [
        (processing("csv", "$[0]"), b'"a\n', "embedded new lines"),
        (processing("json", "$.a"), b"{", "not JSON"),
        (processing("csv", "$[3]"), b"1,2\n", "index 3 of a record of 2"),
    ],
)
def test_a_record_that_cannot_be_read_says_why(rules: Processing, record: bytes, reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        rules.sent(record)
