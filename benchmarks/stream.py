"""Stream speed: records a second from PutRecords through the deployed consumer to S3, beside its handler in a loop.

Both predict the same flights in the same batches by the same endpoint and write the same objects through the same
cloud. The peer has no stream, no event source mapping and no Lambda process: what it is faster by is their cost.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks import splits
from benchmarks.output import Row, show
from local.cloud import lifecycle
from local.cloud.place import Place
from tools import assembly, replay

FLIGHTS, SHARDS, TRAINING_ROWS = 20_000, 2, 20_000
AIM = 2_000
GIVE_UP_SECONDS = 300.0
# Which processes of this cloud do what, by a part of their command line; the others run the function.
WORK = {"local.cloud.server": "the cloud", "local/server.py": "the model server"}


class Deployed:
    """The sandbox's stream and consumer with two shards, in a cloud of their own."""

    def __init__(self, place: Place) -> None:
        self.place = place
        [self.stream] = self.place.client("kinesis").list_streams()["StreamNames"]
        [mapping] = self.place.client("lambda").list_event_source_mappings()["EventSourceMappings"]
        self.batch = int(mapping["BatchSize"])
        [name] = [
            found["FunctionName"]
            for found in self.place.client("lambda").list_functions()["Functions"]
            if found["FunctionArn"] == mapping["FunctionArn"]
        ]
        configuration = self.place.client("lambda").get_function_configuration(FunctionName=name)
        self.variables: dict[str, str] = configuration["Environment"]["Variables"]

    def counted(self, metric: str) -> int:
        """The sum of one of the consumer's metrics so far."""
        points = self.place.client("cloudwatch").get_metric_statistics(
            Namespace=self.variables["POWERTOOLS_METRICS_NAMESPACE"],
            MetricName=metric,
            Dimensions=[{"Name": "service", "Value": self.variables["POWERTOOLS_SERVICE_NAME"]}],
            StartTime=time.time() - 3600,
            EndTime=time.time() + 60,
            Period=7200,
            Statistics=["Sum"],
        )["Datapoints"]
        return int(sum(point["Sum"] for point in points))

    def events(self, bucket: str, prefix: str) -> list[str]:
        """One line for each record written below the prefix."""
        s3 = self.place.client("s3")
        found: list[str] = []
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                found += s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read().decode().splitlines()
        return found


@contextlib.contextmanager
def cloud(folder: Path) -> Iterator[Place]:
    """An embedded cloud with two stacks of the sandbox, deployed by the real CLI."""
    context = assembly.context("sandbox")
    context["stages"]["sandbox"]["ingestion"]["shard_count"] = SHARDS
    out = folder / "cdk.out"
    completed = assembly.run_app(context, out, environment={**os.environ, "CDK_VALIDATION": "false"})
    if completed.returncode != 0:
        sys.exit(completed.stderr)
    with lifecycle.running(Place.on_free_port(folder / "cloud")) as place:
        for command in (["bootstrap"], ["deploy", "Ingestion", "--require-approval", "never"]):
            subprocess.run(
                [str(assembly.ROOT / "node_modules/.bin/cdk"), *command, "--app", str(out), "--no-notices"],
                cwd=place.folder / "work",
                env=place.environment() | {"CI": "true"},
                check=True,
                capture_output=True,
            )
        yield place


def serve(place: Place, name: str, folder: Path) -> None:
    """Train on real flights and put the model behind an endpoint of this name."""
    with contextlib.redirect_stdout(io.StringIO()):
        splits.prepared(folder, rows=TRAINING_ROWS)
        model = splits.trained(folder)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(model, arcname=".")
    s3, iam, sagemaker = (place.client(service) for service in ("s3", "iam", "sagemaker"))
    s3.create_bucket(Bucket="model")
    s3.put_object(Bucket="model", Key="model.tar.gz", Body=packed.getvalue())
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "sagemaker.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    may = {"Effect": "Allow", "Action": ["s3:GetObject", "logs:*"], "Resource": "*"}
    role = iam.create_role(RoleName="model", AssumeRolePolicyDocument=_policy(trust))["Role"]["Arn"]
    iam.put_role_policy(RoleName="model", PolicyName="model", PolicyDocument=_policy(may))
    sagemaker.create_model(
        ModelName="model",
        ExecutionRoleArn=role,
        PrimaryContainer={
            "Image": "xgboost:1",
            "ModelDataUrl": "s3://model/model.tar.gz",
            "Environment": {
                "SAGEMAKER_PROGRAM": "inference.py",
                "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
            },
        },
    )
    variant = {"VariantName": "AllTraffic", "ModelName": "model"}
    variant |= {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}  # type: ignore[dict-item]
    sagemaker.create_endpoint_config(EndpointConfigName="model", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="model")
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )


def through(deployed: Deployed, sent: Sequence[replay.Event]) -> tuple[float, float, Mapping[str, float]]:
    """Seconds until PutRecords has taken all, and until all are settled; CPU-seconds by what worked."""
    before, started = _cpu(deployed.place), time.perf_counter()
    for _ in replay.send(deployed.place.client("kinesis"), deployed.stream, sent):
        continue
    put = time.perf_counter() - started
    while deployed.counted("RecordsReceived") < len(sent):
        if time.perf_counter() - started > GIVE_UP_SECONDS:
            sys.exit(
                f"{deployed.counted('RecordsReceived')} of {len(sent)} records after {GIVE_UP_SECONDS} s"
            )
        time.sleep(0.25)
    settled = time.perf_counter() - started
    after = _cpu(deployed.place)
    return put, settled, {name: after[name] - before.get(name, 0.0) for name in after}


def loop(deployed: Deployed, sent: Sequence[replay.Event]) -> float:
    """Seconds that the handler takes for the same batches, called one after the other in this process."""
    os.environ.update(deployed.place.environment() | deployed.variables | {"PREDICTIONS_PREFIX": "peer/"})
    with contextlib.redirect_stdout(io.StringIO()):  # its logger keeps the output that it finds
        from lambdas import stream_consumer  # noqa: PLC0415 - it reads the environment while it is imported

    names = ("function_name", "memory_limit_in_mb", "invoked_function_arn", "aws_request_id")
    context: Any = SimpleNamespace(**dict.fromkeys(names, "peer"))
    batches = [sent[start : start + deployed.batch] for start in range(0, len(sent), deployed.batch)]
    events = [_event(batch, number) for number, batch in enumerate(batches)]
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        for event in events:
            stream_consumer.handler(event, context)
    return time.perf_counter() - started


def check(deployed: Deployed, sent: Sequence[replay.Event]) -> str:
    """That no record is lost, and how many came twice; exits if one is missing."""
    to = deployed.variables
    lines = deployed.events(to["PREDICTIONS_BUCKET"], to["PREDICTIONS_PREFIX"])
    predicted = Counter(json.loads(line)["event_id"] for line in lines)
    refused = len(deployed.events(to["QUARANTINE_BUCKET"], f"{to['QUARANTINE_PREFIX']}"))
    twice = deployed.counted("RecordsDuplicated")
    if len(lines) + refused + twice != len(sent):
        sys.exit(
            f"{len(sent)} sent, {len(lines)} predicted, {refused} quarantined, {twice} dropped as duplicates"
        )
    again = len(lines) - len(predicted) + twice
    return f"{len(sent):,} records: {len(lines):,} predicted, {refused:,} quarantined, 0 lost; {again:,} came twice"


def main() -> None:
    """Deploy, serve a model, send a year's sample of flights, and call the handler with the same."""
    sent = replay.events(flights=FLIGHTS)
    with tempfile.TemporaryDirectory() as temporary, cloud(Path(temporary)) as place:
        deployed = Deployed(place)
        serve(place, deployed.variables["ENDPOINT_NAME"], Path(temporary))
        put, settled, cpu = through(deployed, sent)
        told = check(deployed, sent)
        handler = loop(deployed, sent)
    rows: list[Row] = [
        {"what": f"PutRecords, {SHARDS} shards", "seconds": put, "records/s": len(sent) / put},
        {"what": "... to the last object in S3", "seconds": settled, "records/s": len(sent) / settled},
        {"what": "the handler in a loop", "seconds": handler, "records/s": len(sent) / handler},
    ]
    busiest = max(cpu, key=lambda name: cpu[name])
    used = ", ".join(f"{name} {seconds:.0f}" for name, seconds in cpu.items())
    show(
        "stream",
        f"Flights through the stream, {os.cpu_count()} cores",
        rows,
        note=f"{told}. CPU-seconds: {used}; the bottleneck is {busiest}. Aim: {AIM:,} records/s.",
    )


def _event(batch: Sequence[replay.Event], number: int) -> dict[str, Any]:
    return {
        "Records": [
            {
                "eventID": f"peer:{number:06d}{place:06d}",
                "kinesis": {
                    "sequenceNumber": f"{number:06d}{place:06d}",
                    "approximateArrivalTimestamp": time.time(),
                    "data": b64encode(event.json().encode()).decode(),
                    "partitionKey": event.id,
                    "kinesisSchemaVersion": "1.0",
                },
            }
            for place, event in enumerate(batch)
        ]
    }


def _cpu(place: Place) -> dict[str, float]:
    """CPU-seconds so far of the producer, which is this process, and of the cloud's processes by what they do."""
    listed = subprocess.run(
        ["ps", "-axwwo", "pid=,pgid=,time=,args="], capture_output=True, text=True, check=True
    )
    used: dict[str, float] = {"the producer": time.process_time()}
    for line in listed.stdout.splitlines():
        _, group, spent, arguments = line.split(maxsplit=3)
        if int(group) != lifecycle.process(place):
            continue
        days, _, clock = spent.rpartition("-")
        seconds = 86_400.0 * int(days or 0)
        seconds += sum(float(part) * 60**power for power, part in enumerate(reversed(clock.split(":"))))
        work = next((name for part, name in WORK.items() if part in arguments), "the function")
        used[work] = used.get(work, 0.0) + seconds
    return used


def _policy(statement: Mapping[str, object]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


if __name__ == "__main__":
    main()
