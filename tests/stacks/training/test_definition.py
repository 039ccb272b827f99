"""A definition that is not what the stage asks for is refused, in one message with the command that mends it."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.settings import FOLDER
from stacks.config import Config, ConfigError, load
from stacks.training.definition import definition, placeholders
from tools.assembly import context


def _config(stage: str = "sandbox", **training: object) -> Config:
    changed = copy.deepcopy(context(stage))
    changed["stages"][stage]["training"] |= training
    return load(changed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "definitions"))


def _edit(path: Path, edit: Any) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def _refusal(config: Config, folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        definition(config, folder)
    message = str(caught.value)
    assert message.endswith("Run: make definition.")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("problem_type", ["classification", "regression"])
@pytest.mark.parametrize("estimator", ["xgboost", "linear"])
@pytest.mark.parametrize("stage", ["sandbox", "production"])
def test_every_choice_of_the_configuration_has_a_definition(
    stage: str, estimator: str, problem_type: str
) -> None:
    config = _config(stage, problem_type=problem_type, estimator=estimator, hyperparameters={})
    text = definition(config)
    assert ("SubnetIds" in placeholders(text)) is (stage == "production")
    assert json.loads(text)["Steps"]


def test_scalars_of_the_stage_become_defaults_and_hyperparameters_become_strings() -> None:
    config = _config(volume_size_gib=17, minimum_auc=0.71, hyperparameters={"num_round": 5, "eta": 0.25})
    parameters = {p["Name"]: p["DefaultValue"] for p in json.loads(definition(config))["Parameters"]}
    assert parameters["VolumeSizeInGB"] == 17
    assert parameters["MetricThreshold"] == 0.71
    assert (parameters["NumRound"], parameters["Eta"]) == ("5", "0.25")
    assert parameters["Dataset"] == "flights"
    assert parameters["ModelApprovalStatus"] == "PendingManualApproval"


@pytest.mark.parametrize(("problem_type", "threshold"), [("classification", 0.6), ("regression", 60.0)])
def test_the_threshold_is_that_of_the_problem(problem_type: str, threshold: float) -> None:
    parameters = json.loads(definition(_config(problem_type=problem_type)))["Parameters"]
    assert {"MetricThreshold": threshold}.items() <= {
        p["Name"]: p["DefaultValue"] for p in parameters
    }.items()


def test_a_hyperparameter_that_is_not_configured_keeps_the_definitions_default() -> None:
    own = {p["Name"]: p for p in json.loads(definition(_config(hyperparameters={})))["Parameters"]}
    committed = json.loads((FOLDER / "classification-xgboost.json").read_text())["definition"]["Parameters"]
    assert own["MaxDepth"] in committed


def test_a_changed_setting_is_refused(folder: Path) -> None:
    path = folder / "classification-xgboost.json"
    _edit(path, lambda content: content["settings"]["hyperparameters"].append("gamma"))
    assert f"{path}: settings_hash is not the hash of its settings" in _refusal(_config(), folder)


def test_a_definition_of_another_problem_is_refused(folder: Path) -> None:
    path = folder / "classification-xgboost.json"
    shutil.copy(folder / "regression-xgboost.json", path)
    message = _refusal(_config(), folder)
    assert f'{path}: its settings differ from {{"problem_type": "classification"}} in cdk.json' in message


def test_a_definition_without_the_network_is_refused_for_an_isolated_stage(folder: Path) -> None:
    path = folder / "classification-xgboost-isolated.json"
    shutil.copy(folder / "classification-xgboost.json", path)
    assert f'{path}: its settings differ from {{"isolated": true}}' in _refusal(_config("production"), folder)


def test_a_missing_definition_is_refused(folder: Path) -> None:
    path = folder / "classification-xgboost.json"
    path.unlink()
    assert f"{path}: no such definition" in _refusal(_config(), folder)


@pytest.mark.parametrize(("text", "reason"), [("{", "not JSON"), ("{}", "has no settings, settings_hash")])
def test_a_damaged_definition_is_refused(folder: Path, text: str, reason: str) -> None:
    path = folder / "classification-xgboost.json"
    path.write_text(text)
    assert f"{path}: {reason}" in _refusal(_config(), folder)


@pytest.mark.parametrize("name", ["MetricThreshold", "NumRound"])
def test_a_definition_without_a_parameter_for_a_knob_is_refused(folder: Path, name: str) -> None:
    path = folder / "classification-xgboost.json"

    def forget(content: dict[str, Any]) -> None:
        parameters = content["definition"]["Parameters"]
        parameters[:] = [parameter for parameter in parameters if parameter["Name"] != name]

    _edit(path, forget)
    assert f"{path}: has no parameter {name}" in _refusal(_config(), folder)


def test_placeholders_are_all_that_fn_sub_has_to_be_given() -> None:
    assert placeholders('{"a":"${CodeUri}/${AWS::Region}","b":"$x $(y) ${KmsKeyArn}"}') == {
        "CodeUri",
        "KmsKeyArn",
    }
