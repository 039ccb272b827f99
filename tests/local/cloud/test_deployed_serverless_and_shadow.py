"""The sandbox with option stacks, deployed by the CLI: an approval reaches the serverless endpoint, and an experiment runs.

In a cloud of its own: the shared one has the sandbox as `cdk.json` lists it, without options.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from local.cloud import lifecycle
from local.cloud.place import ROOT, Place
from stacks.option_config import CHALLENGER, CHAMPION
from tests.local.cloud.conftest import Cdk
from tests.local.cloud.test_sagemaker_release import Release, Trained, trained
from tests.local.cloud.test_stream import eventually
from tests.support.synth import synthesize
from tools import compare
from tools.assembly import Assembly, context
from tools.comparison import Settings

__all__ = ["trained"]  # a fixture

SERVERLESS, EXPERIMENT = "flights-sandbox-serverless", "flights-sandbox-experiment"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cdk]:
    """The sandbox with a serverless endpoint and a shadow experiment."""
    experiment = context("sandbox")["stages"]["sandbox"]["experiment"] | {
        "kind": "SHADOW",
        "mirrored_percent": 100,
    }
    experiment.pop("challenger_percent", None)
    out = tmp_path_factory.mktemp("synth") / "cdk.out"
    synthesize("sandbox", out, changed={"options": ["serverless", "experiment"], "experiment": experiment})
    with lifecycle.running(Place.on_free_port(tmp_path_factory.mktemp("cloud"))) as place:
        cdk = Cdk(place, Assembly("sandbox", out))
        cdk("bootstrap")
        cdk.deploy()
        yield cdk


@pytest.fixture(scope="module")
def release(deployed: Cdk, trained: Trained) -> Release:
    """Its first version is approved and in service."""
    found = Release(deployed, deployed.place.client)
    stack = found.approve(found.register(trained, "first"))
    assert stack["StackStatus"] == "UPDATE_COMPLETE", found.reasons()
    return found


def in_service(release: Release, endpoint: str) -> bool:
    listed = release.client("sagemaker").list_endpoints(NameContains=endpoint)["Endpoints"]
    return any(it["EndpointStatus"] == "InService" for it in listed)


def score(release: Release, endpoint: str, record: dict[str, Any], **more: str) -> float:
    answer = release.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=endpoint,
        ContentType="application/json",
        Body=json.dumps({"instances": [record]}),
        **more,
    )
    (prediction,) = json.loads(answer["Body"].read())["predictions"]
    found: float = prediction["score"]
    return found


@pytest.mark.deep  # a deployment of all stacks
def test_an_approved_version_answers_on_the_serverless_endpoint_too(
    release: Release, trained: Trained
) -> None:
    assert eventually(lambda: in_service(release, SERVERLESS), seconds=60)
    expected = score(release, release.endpoint, trained.record)
    assert score(release, SERVERLESS, trained.record) == expected
    found = release.client("sagemaker").describe_endpoint(EndpointName=SERVERLESS)
    assert found["ProductionVariants"][0]["CurrentServerlessConfig"]["MaxConcurrency"] == 5


@pytest.mark.deep
def test_an_experiment_mirrors_what_the_champion_is_asked_and_its_report_pairs_the_answers(
    release: Release, trained: Trained, deployed: Cdk
) -> None:
    challenger = release.register(trained, "challenger")
    assert eventually(lambda: not in_service(release, EXPERIMENT), seconds=1)
    told = subprocess.run(
        [
            *(sys.executable, "-m", "tools.experiment", "start"),
            *("--stage", "sandbox", "--challenger", challenger),
        ],
        cwd=ROOT,
        env=deployed.place.environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    requests = 10
    for number in range(requests):
        score(release, EXPERIMENT, trained.record, InferenceId=f"flight-{number}")
    truth = {f"flight-{number}": 0 for number in range(requests)}
    settings = Settings("SHADOW", minimum_effect=0.3, confidence=0.95, power=0.8)

    def compared() -> Any:
        found = compare.report(release.client, EXPERIMENT, truth, settings)
        return found if all(arm["with_truth"] == requests for arm in found["arms"].values()) else None

    found = eventually(compared, seconds=30)
    assert found
    assert found["agreement"]["share"] == 1  # it is the same model
    assert {name: arm["service"]["invocations"] for name, arm in found["arms"].items()} == {
        CHAMPION: requests,
        CHALLENGER: requests,
    }
