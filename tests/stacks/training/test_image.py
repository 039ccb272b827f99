"""The committed registry table is the SageMaker SDK's."""

import importlib.util
import json
from pathlib import Path

import pytest

from stacks.foundation.model_role import IMAGE_REPOSITORY
from stacks.training.image import REGISTRIES, TAG
from tests.support.intrinsics import Resolver
from tools.assembly import Assembly


def _sdk() -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    spec = importlib.util.find_spec("sagemaker")
    assert spec is not None
    for location in spec.submodule_search_locations or ():
        path = Path(location) / "core" / "image_uri_config" / "xgboost.json"
        if path.exists():
            loaded: dict[str, dict[str, dict[str, dict[str, object]]]] = json.loads(path.read_text())
            return loaded
    raise AssertionError("the SageMaker SDK has no image_uri_config/xgboost.json")


@pytest.mark.parametrize("scope", ["training", "inference"])
def test_the_registry_of_every_region_is_the_sdks(scope: str) -> None:
    version = _sdk()[scope]["versions"][TAG]
    assert json.loads(REGISTRIES.read_text()) == version["registries"]
    assert version["repository"] == IMAGE_REPOSITORY


def test_the_image_is_found_in_the_region_of_the_stack(each_assembly: Assembly) -> None:
    template = each_assembly.template("Training")
    values = template.only("AWS::SageMaker::Pipeline")["Properties"]["PipelineDefinition"][
        "PipelineDefinitionBody"
    ]["Fn::Sub"][1]
    uris = Resolver(each_assembly, template).strings(values["ImageUri"])
    assert "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0" in uris
    (mapping,) = template.json["Mappings"].values()
    assert mapping["eu-central-1"] == {"Account": "492215442770"}


@pytest.mark.deep
def test_the_sdk_builds_the_same_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    from sagemaker.core import image_uris  # noqa: PLC0415 - costs seconds, and needs a region while it is imported

    for region, account in json.loads(REGISTRIES.read_text()).items():
        uri = image_uris.retrieve("xgboost", region, version=TAG)
        assert uri.startswith(f"{account}.dkr.ecr.{region}."), region
        assert uri.endswith(f"/{IMAGE_REPOSITORY}:{TAG}")
