import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from lambdas import stream_batch
from lambdas.stream_batch import Flight, NoModelError, RefusedError, UnavailableError
from pipeline import schema
from tests.lambdas.flights import event, received, sequence

FLIGHTS = schema.load("flights")


def answer(flights: list[Flight]) -> list[dict[str, Any]]:
    return [{"score": 0.5, "label": 0} for _ in flights]


def flight(position: int, size: int = 10) -> Flight:
    return Flight(position, f"e{position}", "2013-01-01T10:00:00Z", b"x" * size)


def test_a_flight_that_comes_twice_in_a_batch_is_predicted_once() -> None:
    batch = [received(0, event("a")), received(1, event("b")), received(2, event("a", distance=1))]
    settled = stream_batch.settle(batch, FLIGHTS, answer)
    assert [found.position for found, _ in settled.predicted] == [0, 1]
    assert settled.duplicates == 1


def test_a_refused_record_does_not_make_its_good_twin_a_duplicate() -> None:
    batch = [received(0, event("a", carrier="XX")), received(1, event("a"))]
    settled = stream_batch.settle(batch, FLIGHTS, answer)
    assert settled.refused == {0: ["not_allowed:carrier"]}
    assert [found.position for found, _ in settled.predicted] == [1]


def test_an_oversize_record_is_refused_unread() -> None:
    largest = stream_batch.MAXIMUM_RECORD_BYTES
    fits, exceeds = (json.dumps(event("a", padding="")).encode() for _ in range(2))
    fits = fits[:-2] + b"p" * (largest - len(fits)) + fits[-2:]
    exceeds = exceeds[:-2] + b"p" * (largest + 1 - len(exceeds)) + exceeds[-2:]
    settled = stream_batch.settle([received(0, fits), received(1, exceeds)], FLIGHTS, answer)
    assert settled.refused == {1: ["oversize"]}
    assert len(settled.predicted) == 1


def test_a_request_holds_at_most_our_number_of_records_in_order() -> None:
    limit = stream_batch.MAXIMUM_RECORDS
    cut = stream_batch.chunks([flight(i) for i in range(limit + 1)])
    assert [len(chunk) for chunk in cut] == [limit, 1]
    assert [found.position for chunk in cut for found in chunk] == list(range(limit + 1))


def test_a_request_body_is_never_longer_than_the_api_takes() -> None:
    size = 62_914  # a hundred of them fit, but not with the commas between them
    cut = stream_batch.chunks([flight(i, size) for i in range(200)])
    bodies = [len(stream_batch.body(chunk)) for chunk in cut]
    assert max(bodies) <= stream_batch.MAXIMUM_BODY_BYTES
    assert max(bodies) + size > stream_batch.MAXIMUM_BODY_BYTES - 100, "the limit is used"
    assert sum(len(chunk) for chunk in cut) == 200


def test_the_one_record_the_model_refuses_is_found_and_the_others_are_predicted() -> None:
    calls = []

    def invoke(flights: list[Flight]) -> list[dict[str, Any]]:
        calls.append(len(flights))
        if any(found.event_id == "e41" for found in flights):
            raise RefusedError("no such airport")
        return answer(flights)

    batch = [received(i, event(f"e{i}")) for i in range(64)]
    settled = stream_batch.settle(batch, FLIGHTS, invoke)
    assert settled.refused == {41: ["refused_by_model: no such airport"]}
    assert [found.position for found, _ in settled.predicted] == [i for i in range(64) if i != 41]
    assert len(calls) == 13, "1 + 2·log2(64)"


def test_from_the_first_record_that_cannot_be_predicted_now_everything_goes_back() -> None:
    def invoke(flights: list[Flight]) -> list[dict[str, Any]]:
        if len(flights) > 1:
            raise RefusedError("halve it")
        if flights[0].event_id == "e2":
            raise UnavailableError("throttled")
        return answer(flights)

    contents = [event("e0"), b"{", event("e2"), b"[", event("e2"), event("e5")]
    settled = stream_batch.settle([received(i, c) for i, c in enumerate(contents)], FLIGHTS, invoke)
    assert settled.again_from == sequence(2)
    assert (len(settled.predicted), settled.refused) == (1, {1: ["malformed"]})
    assert (settled.duplicates, settled.returned) == (0, 4)


def test_without_a_model_flights_are_counted_and_bad_records_still_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def invoke(flights: list[Flight]) -> list[dict[str, Any]]:
        raise NoModelError

    monkeypatch.setattr(stream_batch, "MAXIMUM_RECORDS", 1)
    batch = [received(0, event("a")), received(1, b"{"), received(2, event("b")), received(3, event("a"))]
    settled = stream_batch.settle(batch, FLIGHTS, invoke)
    assert (settled.skipped, settled.refused, settled.duplicates) == (2, {1: ["malformed"]}, 1)
    assert (settled.again_from, settled.returned) == (None, 0)


RECORDS = st.lists(
    st.one_of(
        st.integers(0, 12).map(lambda i: json.dumps(event(f"e{i}")).encode()),
        st.sampled_from([b"{", json.dumps(event("bad", carrier=None)).encode(), b"x" * 70_000]),
    ),
    max_size=25,
)
FATES = st.dictionaries(
    st.integers(0, 12).map(lambda i: f"e{i}"),
    st.sampled_from([RefusedError, UnavailableError, NoModelError]),
)


@pytest.mark.parametrize("limit", [3, stream_batch.MAXIMUM_RECORDS])
@hypothesis.settings(
    deadline=None,
    max_examples=60,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(contents=RECORDS, fates=FATES)
def test_every_record_received_ends_in_exactly_one_place(
    monkeypatch: pytest.MonkeyPatch, limit: int, contents: list[bytes], fates: dict[str, type[Exception]]
) -> None:
    monkeypatch.setattr(stream_batch, "MAXIMUM_RECORDS", limit)

    def invoke(flights: list[Flight]) -> list[dict[str, Any]]:
        for found in flights:
            if fate := fates.get(found.event_id):
                raise fate("as the test wants it")
        return answer(flights)

    batch = [received(i, content) for i, content in enumerate(contents)]
    settled = stream_batch.settle(batch, FLIGHTS, invoke)
    predicted = {found.position for found, _ in settled.predicted}
    assert settled.received == len(batch)
    assert settled.received == (
        len(predicted) + len(settled.refused) + settled.duplicates + settled.skipped + settled.returned
    )
    assert not predicted & set(settled.refused)
    assert (settled.again_from is None) == (settled.returned == 0)
    if settled.again_from:
        first = [record.sequence for record in batch].index(settled.again_from)
        assert settled.returned == len(batch) - first
        assert all(position < first for position in (*predicted, *settled.refused))
