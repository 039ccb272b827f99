import base64
import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from botocore.stub import Stubber

from lambdas import clients, stream_consumer
from lambdas.stream_batch import Flight, NoModelError, RefusedError, UnavailableError
from tests.lambdas.conftest import Context
from tests.lambdas.flights import SHARD, Endpoint, client_error, event, kinesis_event, sequence

RAW, CURATED = "raw-bucket", "curated-bucket"
FIRST = f"date=2013-01-01/{SHARD}-{sequence(0)}.jsonl"


class World:
    """The consumer, its endpoint, and the two buckets it writes."""

    def __init__(self, context: Context, endpoint: Endpoint, capture: pytest.CaptureFixture[str]) -> None:
        self.s3 = boto3.client("s3")
        for bucket in (RAW, CURATED):
            self.s3.create_bucket(
                Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
            )
        self.context, self.endpoint, self.capture = context, endpoint, capture

    def consume(self, *contents: bytes | dict[str, Any], start: int = 0) -> Any:
        return stream_consumer.handler(kinesis_event(contents, start), self.context)

    def keys(self, bucket: str) -> list[str]:
        return [item["Key"] for item in self.s3.list_objects_v2(Bucket=bucket).get("Contents", [])]

    def lines(self, bucket: str, key: str) -> list[dict[str, Any]]:
        body = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
        return [json.loads(line) for line in body.splitlines()]

    def metrics(self) -> dict[str, float]:
        """The last batch's metrics, as CloudWatch would read them from the log."""
        printed = [json.loads(line) for line in self.capture.readouterr().out.splitlines()]
        emitted = next(line for line in reversed(printed) if "_aws" in line)
        names = [item["Name"] for item in emitted["_aws"]["CloudWatchMetrics"][0]["Metrics"]]
        return {name: emitted[name][0] for name in names}


@pytest.fixture
def world(
    aws: None, context: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> World:
    for name, value in {
        "ENDPOINT_NAME": "flights-sandbox",
        "PREDICTIONS_BUCKET": CURATED,
        "PREDICTIONS_PREFIX": "predictions/",
        "QUARANTINE_BUCKET": RAW,
        "QUARANTINE_PREFIX": "quarantine",
        "DATASET": "flights",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(stream_consumer.metrics.provider, "namespace", "flights-sandbox")
    endpoint = Endpoint()
    real = clients.client
    monkeypatch.setattr(
        clients, "client", lambda service: endpoint if service == "sagemaker-runtime" else real(service)
    )
    return World(context, endpoint, capsys)


def test_consumer_writes_a_prediction_for_each_flight_with_its_event_id(world: World) -> None:
    response = world.consume(event("a"), event("b"))
    assert response == {"batchItemFailures": []}
    assert world.keys(CURATED) == [f"predictions/{FIRST}"]
    assert world.lines(CURATED, f"predictions/{FIRST}") == [
        {"event_id": event_id, "event_time": "2013-01-01T09:00:00Z", "score": 0.25, "label": 0}
        for event_id in ("a", "b")
    ]
    assert len(world.endpoint.requests) == 1, "one call for one batch"
    assert world.metrics() == {
        "RecordsReceived": 2,
        "RecordsPredicted": 2,
        "RecordsQuarantined": 0,
        "RecordsDuplicated": 0,
        "NoModelYet": 0,
        "RecordsReturned": 0,
        "SumOfScores": 0.5,
    }


@pytest.mark.parametrize(
    ("answers", "total"),
    [
        ([], 0.0),
        ([{"score": 0.25, "label": 0}, {"score": 1, "label": 1}], 1.25),
        ([{"value": -12.5}, {"value": 2.5}], -10.0),  # regression: minutes
        ([{"score": float("nan")}, {"score": None}, {"score": "high"}, {}, {"score": 0.5}], 0.5),
    ],
)
def test_what_the_model_said_is_added_up_and_nothing_else(
    answers: list[dict[str, Any]], total: float
) -> None:
    flights = [Flight(position, "a", "2013-01-01T09:00:00Z", b"{}") for position in range(len(answers))]
    assert stream_consumer.sum_of_scores(zip(flights, answers, strict=True)) == total


def test_consumer_asks_its_endpoint_in_json(world: World) -> None:
    world.consume(event("a"))
    request = world.endpoint.requests[0]
    assert request["EndpointName"] == "flights-sandbox"
    assert (request["ContentType"], request["Accept"]) == ("application/json", "application/json")


def test_consumer_quarantines_bad_records_whole_with_reason_and_does_not_retry_them(world: World) -> None:
    broken, oversize = b"\xffnot json", b"x" * 70_000
    response = world.consume(broken, event("a"), event("b", origin="SFO"), oversize)
    assert response == {"batchItemFailures": []}
    lines = world.lines(RAW, f"quarantine/{FIRST}")
    assert [line["reasons"] for line in lines] == [["not_utf8"], ["not_allowed:origin"], ["oversize"]]
    assert [line["sequence"] for line in lines] == [sequence(0), sequence(2), sequence(3)]
    assert base64.b64decode(lines[0]["data"]) == broken
    assert json.loads(base64.b64decode(lines[1]["data"])) == event("b", origin="SFO")
    assert base64.b64decode(lines[2]["data"]) == oversize
    assert world.metrics()["RecordsQuarantined"] == 3


def test_an_invocation_without_records_has_no_failures_and_writes_nothing(world: World) -> None:
    assert world.consume() == {"batchItemFailures": []}
    assert world.keys(CURATED) == world.keys(RAW) == []


def test_consumer_asked_twice_writes_the_same_objects(world: World) -> None:
    contents = [event("a"), b"{", event("a")]
    world.consume(*contents)
    once = {bucket: world.keys(bucket) for bucket in (RAW, CURATED)}
    world.consume(*contents)
    assert {bucket: world.keys(bucket) for bucket in (RAW, CURATED)} == once
    assert len(world.lines(CURATED, f"predictions/{FIRST}")) == 1


def test_halves_of_a_batch_sent_again_after_a_crash_leave_no_event_twice(world: World) -> None:
    contents = [event(str(i)) for i in range(6)]
    world.consume(*contents)
    world.consume(*contents[:3])
    world.consume(*contents[3:], start=3)
    ids = [line["event_id"] for key in world.keys(CURATED) for line in world.lines(CURATED, key)]
    assert sorted(ids) == ["0", "1", "2", "3", "4", "5"]


def test_throttled_records_go_back_to_the_stream_and_nothing_is_written_for_them(world: World) -> None:
    def throttle(instances: list[dict[str, Any]]) -> None:
        raise client_error("ThrottlingException", "Rate exceeded")

    world.endpoint.judge = throttle
    response = world.consume(b"{", event("a"), event("b"))
    assert response == {"batchItemFailures": [{"itemIdentifier": sequence(1)}]}
    assert world.keys(CURATED) == []
    assert world.metrics()["RecordsReturned"] == 2
    world.endpoint.judge = lambda _: None
    assert world.consume(event("a"), event("b"), start=1) == {"batchItemFailures": []}
    assert world.keys(CURATED) == [f"predictions/date=2013-01-01/{SHARD}-{sequence(1)}.jsonl"]


def test_the_record_the_model_refuses_is_quarantined_alone(world: World) -> None:
    def refuse(instances: list[dict[str, Any]]) -> None:
        if any(instance["dest"] == "???" for instance in instances):
            raise client_error("ModelError", "unknown airport ???", OriginalStatusCode=400)

    world.endpoint.judge = refuse
    response = world.consume(event("a"), event("b", dest="???"), event("c"))
    assert response == {"batchItemFailures": []}
    assert [line["event_id"] for line in world.lines(CURATED, f"predictions/{FIRST}")] == ["a", "c"]
    assert [line["reasons"] for line in world.lines(RAW, f"quarantine/{FIRST}")] == [
        ["refused_by_model: unknown airport ???"]
    ]


def test_no_model_yet_is_counted_logged_and_not_retried(world: World) -> None:
    def absent(instances: list[dict[str, Any]]) -> None:
        raise client_error("ValidationError", "Endpoint flights-sandbox of account 123456789012 not found.")

    world.endpoint.judge = absent
    assert world.consume(event("a"), event("b")) == {"batchItemFailures": []}
    assert world.keys(CURATED) == world.keys(RAW) == []
    assert world.metrics()["NoModelYet"] == 2


@pytest.mark.filterwarnings("ignore:No application metrics")
def test_a_bucket_that_cannot_be_written_fails_the_batch_so_that_it_comes_again(world: World) -> None:
    world.s3.delete_bucket(Bucket=CURATED)
    with pytest.raises(ClientError, match="NoSuchBucket"):
        world.consume(event("a"))


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (client_error("ValidationError", "Endpoint x of account 1 not found."), NoModelError),
        (client_error("ValidationError", 'Could not find endpoint "x".'), NoModelError),
        (client_error("ValidationError", "Request body is too long"), RefusedError),
        (client_error("ModelError", OriginalStatusCode=400), RefusedError),
        (client_error("ModelError", OriginalStatusCode=415), RefusedError),
        (client_error("ModelError", OriginalStatusCode=429), UnavailableError),
        (client_error("ModelError", OriginalStatusCode=500), UnavailableError),
        (client_error("ModelError"), UnavailableError),
        (client_error("ThrottlingException"), UnavailableError),
        (client_error("ServiceUnavailable"), UnavailableError),
        (client_error("ModelNotReadyException"), UnavailableError),
        (client_error("AccessDeniedException"), UnavailableError),
    ],
)
def test_a_failed_call_is_the_fault_of_the_record_or_of_the_service(
    error: ClientError, verdict: type[Exception]
) -> None:
    assert type(stream_consumer.classify(error)) is verdict


def test_the_status_of_the_container_is_read_where_botocore_puts_it(aws: None) -> None:
    runtime = boto3.client("sagemaker-runtime")
    with Stubber(runtime) as stub:
        stub.add_client_error(
            "invoke_endpoint",
            service_error_code="ModelError",
            service_message="bad row",
            http_status_code=424,
            modeled_fields={"OriginalStatusCode": 400, "OriginalMessage": "bad row"},
        )
        with pytest.raises(RefusedError, match="bad row"):
            stream_consumer.invoke_endpoint(runtime, "flights", [Flight(0, "a", "t", b"{}")])


class Broken:
    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer

    def invoke_endpoint(self, **_: Any) -> dict[str, Any]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return {"Body": type("Body", (), {"read": lambda _, answer=self.answer: answer})()}


@pytest.mark.parametrize(
    "answer",
    [ConnectTimeoutError(endpoint_url="https://x"), b"<html>", b"[]", b"{}", b'{"predictions":[{},{}]}'],
    ids=["no connection", "no JSON", "a list", "no predictions", "too many"],
)
def test_an_answer_nobody_can_use_is_no_answer(answer: bytes | Exception) -> None:
    with pytest.raises(UnavailableError):
        stream_consumer.invoke_endpoint(Broken(answer), "flights", [Flight(0, "a", "t", b"{}")])
