"""A sandbox whose options list batch and experiment: what Serving has proved, they get, and then they do their work.

Batch is started by the template's own schedule; the experiment by its tool, which compares two versions on one endpoint.
All by roles of the templates.
"""

import csv
import datetime as dt
import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import lifecycle
from local.cloud.place import ROOT, Place
from pipeline import schema
from tests.local.cloud.conftest import Cdk
from tests.local.cloud.test_sagemaker_release import Release, Trained, trained
from tests.local.cloud.test_stream import eventually
from tests.local.test_registry import archive
from tests.tools.test_compare import curated
from tools import compare
from tools.assembly import Assembly, context, run_app

__all__ = ["trained"]

pytestmark = pytest.mark.deep

FOLLOWERS = ("flights-sandbox-batch", "flights-sandbox-experiment")
ENDPOINT = "flights-sandbox-experiment"
# Decides by the hour: the truth of this test is that flights of odd hours are late.
CHALLENGER = """
import datetime as dt
import json

def model_fn(directory):
    return None

def input_fn(body, content_type):
    return [dt.datetime.fromisoformat(it["time_hour"]).hour % 2 for it in json.loads(body)["instances"]]

def predict_fn(labels, model):
    return [{"score": 0.1 + 0.8 * label, "label": label} for label in labels]

def output_fn(predictions, accept):
    return json.dumps({"predictions": predictions}), "application/json"
"""


def settings() -> dict[str, Any]:
    """cdk.json with the options, a schedule that fires within seconds here, and a difference that few answers show."""
    found = context("sandbox")
    stage = found["stages"]["sandbox"]
    changed = {
        "options": ["batch", "experiment"],
        "batch": stage["batch"] | {"schedule": "rate(15 minutes)", "schedule_enabled": True},
        "experiment": stage["experiment"] | {"minimum_effect": 0.2},
    }
    return found | {"stages": found["stages"] | {"sandbox": stage | changed}}


@pytest.fixture(scope="module")
def cdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cdk]:
    out = tmp_path_factory.mktemp("app") / "cdk.out"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = run_app(settings(), out, environment={**os.environ, "PATH": path, "CDK_VALIDATION": "false"})
    assert done.returncode == 0, done.stderr
    with lifecycle.running(Place.on_free_port(tmp_path_factory.mktemp("options"))) as place:
        cdk = Cdk(place, Assembly("sandbox", out))
        cdk("bootstrap")
        cdk.deploy()
        yield cdk


@pytest.fixture(scope="module")
def release(cdk: Cdk) -> Release:
    return Release(cdk, cdk.place.client)


@pytest.fixture(scope="module")
def first(release: Release, trained: Trained) -> str:
    """The version in service."""
    package = release.register(trained, "first")
    assert release.approve(package)["StackStatus"] == "UPDATE_COMPLETE", release.reasons()
    return package


def stack(release: Release, name: str) -> Any:
    (found,) = release.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    return found


def parameters(release: Release, name: str) -> dict[str, str]:
    return {it["ParameterKey"]: it["ParameterValue"] for it in stack(release, name)["Parameters"]}


def follows(release: Release, name: str, package: str) -> bool:
    status = stack(release, name)["StackStatus"]
    return parameters(release, name)["ModelPackageArn"] == package and status == "UPDATE_COMPLETE"


def ends(release: Release, name: str) -> list[tuple[dt.datetime, str]]:
    """When the stack's updates ended, and under which token; the newest first."""
    events = release.client("cloudformation").describe_stack_events(StackName=name)["StackEvents"]
    return [
        (it["Timestamp"], it.get("ClientRequestToken", ""))
        for it in events
        if it["LogicalResourceId"] == name and it["ResourceStatus"] == "UPDATE_COMPLETE"
    ]


@pytest.mark.parametrize("name", FOLLOWERS)
def test_an_option_follows_after_serving_s_rollout_by_the_templates_role(
    release: Release, first: str, name: str
) -> None:
    assert eventually(lambda: follows(release, name, first), seconds=60), stack(release, name)
    role = stack(release, name)["RoleARN"]
    assert role.rpartition("/")[2].startswith("flights-sandbox-foundation-ServingUpdateRole")
    ((served, token), *_), ((followed, following), *_) = ends(release, release.serving), ends(release, name)
    assert (token.startswith("release-1-"), following.startswith("follow-")) == (True, True)
    assert served <= followed


def test_what_serving_could_not_release_reaches_no_option(
    release: Release, first: str, trained: Trained
) -> None:
    gone = release.register(trained, "gone")
    release.client("s3").delete_object(Bucket=release.bucket, Key="pipeline/Train/gone/model.tar.gz")
    release.decide(gone, "Approved")
    release.became(gone, "not released")
    assert [parameters(release, name)["ModelPackageArn"] for name in FOLLOWERS] == [first, first]


def test_the_schedule_of_the_template_predicts_what_lies_there_and_joins_it(
    release: Release, first: str, trained: Trained
) -> None:
    """Each line of the input is answered by its id, its score and its class: `$[1:]`, `Input`, `$[0,-2,-1]`."""
    s3 = release.client("s3")
    columns = [column.name for column in schema.load("flights").request_columns]
    lines = io.StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    for number in range(20):
        record = trained.record | {"hour": number}
        rows.writerow([f"flight-{number}", *("" if record[it] is None else record[it] for it in columns)])
    s3.put_object(Bucket=release.curated, Key="batch/input/flights.csv", Body=lines.getvalue().encode())

    def written() -> str:
        try:
            found = s3.get_object(Bucket=release.curated, Key="batch/output/flights.csv.out")
        except ClientError:
            return ""
        body: str = found["Body"].read().decode()
        return body

    out = eventually(written, seconds=60)
    assert out, release.client("sagemaker").list_transform_jobs()["TransformJobSummaries"]
    joined = [line.split(",") for line in out.splitlines()]
    assert [row[0] for row in joined] == [f"flight-{number}" for number in range(20)]
    asked = [trained.record | {"hour": number} for number in range(20)]
    answer = release.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=release.endpoint,
        ContentType="application/json",
        Body=json.dumps({"instances": asked}),
    )
    live = json.loads(answer["Body"].read())["predictions"]
    assert [(float(score), int(label)) for _, score, label in joined] == [
        (it["score"], it["label"]) for it in live
    ]
    sagemaker = release.client("sagemaker")
    listed = eventually(
        lambda: sagemaker.list_transform_jobs(StatusEquals="Completed", SortOrder="Ascending")[
            "TransformJobSummaries"
        ],
        seconds=30,
    )
    job = sagemaker.describe_transform_job(TransformJobName=listed[0]["TransformJobName"])
    model = sagemaker.describe_model(ModelName=job["ModelName"])
    assert model["PrimaryContainer"]["ModelPackageName"] == first


def tool(release: Release, cdk: Cdk, name: str, *arguments: str, succeeds: bool = True) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"tools.{name}", "--stage", "sandbox", *arguments],
        cwd=ROOT,
        env=cdk.place.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode == 0) == succeeds, done.stdout + done.stderr
    return done.stdout + done.stderr


class Asked:
    """A flight an hour, from the first on, each asked about once under its own inference id."""

    def __init__(self, release: Release, trained: Trained) -> None:
        self.runtime, self.record = release.client("sagemaker-runtime"), trained.record
        self.data, self.number, self.variants = schema.load("flights"), 0, Counter[str]()

    def ask(self, times: int, **more: str) -> list[Any]:
        return [self._ask(**more) for _ in range(times)]

    def _ask(self, **more: str) -> Any:
        hour = dt.datetime(2013, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=self.number)
        self.number += 1
        key = {"time_hour": hour, "carrier": "UA", "flight": 1}
        answer = self.runtime.invoke_endpoint(
            EndpointName=ENDPOINT,
            ContentType="application/json",
            Body=json.dumps({"instances": [self.record | {"time_hour": hour.isoformat()}]}),
            InferenceId=compare.inference_id(key, self.data),
            **more,
        )
        self.variants[answer["InvokedProductionVariant"]] += 1
        return json.loads(answer["Body"].read())["predictions"][0]


def test_an_experiment_compares_two_versions_and_says_when_it_is_too_early(
    release: Release,
    cdk: Cdk,
    first: str,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert eventually(lambda: follows(release, FOLLOWERS[1], first), seconds=60)
    packed = tmp_path / "model.tar.gz"
    packed.write_bytes(archive({"code/inference.py": CHALLENGER}))
    challenger = release.register(Trained(packed, {}), "challenger")

    assert "the experiment runs" in tool(release, cdk, "experiment", "start", "--challenger", challenger)
    said = tool(release, cdk, "experiment", "status")
    assert "Champion: weight 80, 1 instance(s)" in said
    assert "Challenger: weight 20, 1 instance(s)" in said
    assert "is the champion" in tool(
        release, cdk, "experiment", "start", "--challenger", first, succeeds=False
    )

    asked = Asked(release, trained)
    assert {it["label"] for it in asked.ask(2, TargetVariant="Challenger")} == {0, 1}
    assert asked.variants == {"Challenger": 2}
    asked.ask(2, TargetVariant="Champion")
    assert asked.variants == {"Challenger": 2, "Champion": 2}
    verdicts = Verdicts(release, tmp_path, monkeypatch)
    assert verdicts.after(asked.number).startswith("too early: about ")

    asked.variants.clear()
    asked.ask(600)
    # A fifth of 600, within five standard deviations.
    assert 71 <= asked.variants["Challenger"] <= 169
    assert verdicts.after(asked.number) == "better"
    arms = verdicts.report["arms"]
    assert arms["Challenger"]["errors"] == 0
    assert arms["Champion"]["error_rate"] > 0.3
    assert arms["Challenger"]["service"]["invocations"] == asked.variants["Challenger"] + 2

    # Promotion is an approval, which reaches whoever follows: the schedule, too, names another model, and the
    # experiment ends, because the challenger is the champion.
    assert release.approve(challenger)["StackStatus"] == "UPDATE_COMPLETE", release.reasons()
    for name in FOLLOWERS:
        assert eventually(lambda name=name: follows(release, name, challenger), seconds=60), name
    assert not release.client("sagemaker").list_endpoints(NameContains=ENDPOINT)["Endpoints"]
    said = tool(release, cdk, "experiment", "status")
    assert "No experiment runs: the challenger was released" in said
    ended = tool(release, cdk, "compare", "--truth", verdicts.truth, succeeds=False)
    assert f"{ENDPOINT} is not there: no experiment runs" in ended
    outputs = {it["OutputKey"]: it["OutputValue"] for it in stack(release, FOLLOWERS[0])["Outputs"]}
    model = outputs["ModelName"]
    assert scheduled(release)["ModelName"] == model
    described = release.client("sagemaker").describe_model(ModelName=model)
    assert described["PrimaryContainer"]["ModelPackageName"] == challenger

    assert "the experiment has ended" in tool(release, cdk, "experiment", "stop")
    assert "No experiment runs." in tool(release, cdk, "experiment", "status")


def scheduled(release: Release) -> Any:
    """The request that the schedule of the Batch stack sends."""
    scheduler = release.client("scheduler")
    [name] = [it["Name"] for it in scheduler.list_schedules(NamePrefix=FOLLOWERS[0])["Schedules"]]
    return json.loads(scheduler.get_schedule(Name=name)["Target"]["Input"])


class Verdicts:
    """What `python -m tools.compare` concludes, from captures in S3 and a curated table beside them."""

    def __init__(self, release: Release, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.release, self.folder = release, folder
        monkeypatch.setattr(compare, "ROOT", folder)
        monkeypatch.setattr(compare, "OUT", folder / "out" / "compare")
        monkeypatch.setattr(compare, "context", lambda _stage: settings())
        table = curated(folder / "table", [60 * (hour % 2) for hour in range(1000)])
        self.truth = f"s3://{release.curated}/truth/"
        release.client("s3").upload_file(
            str(table / "part.parquet"), release.curated, "truth/month=1/part.parquet"
        )
        self.report: Any = {}

    def after(self, answers: int) -> str:
        """The verdict as soon as so many answers have been captured."""

        def counted() -> bool:
            arguments = ["--stage", "sandbox", "--truth", self.truth]
            assert compare.main(arguments, clients=self.release.client) == 0
            self.report = json.loads((self.folder / "out/compare/report.json").read_text())
            return sum(arm["answers"] for arm in self.report["arms"].values()) == answers

        assert eventually(counted, seconds=30), self.report
        verdict: str = self.report["verdict"]
        return verdict
