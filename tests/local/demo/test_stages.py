"""What does not hold together is not reported, and a failing piece is one of the demo's own failures."""

import copy
from argparse import Namespace
from typing import Any

import pytest

from local.demo import stages
from local.demo.progress import Progress
from tests.local.demo.test_demo import run_here
from tools import assembly
from tools.assembly import context

SOUND: dict[str, Any] = {
    "data": {"rows_in": 10, "rows_out": 6, "quarantined": 2, "duplicates": 1, "excluded": 1},
    "splits": {"train": {"rows": 3}, "validation": {"rows": 2}, "test": {"rows": 1}},
    "serving": {"auc": 0.7},
    "model": {"gate": {"model": 0.7}},
}


def test_figures_that_add_up_are_reported() -> None:
    stages._check(SOUND)


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("data", "quarantined", 3, "10 records arrived, but 6 .* are accounted for"),
        ("splits", "test", {"rows": 2}, "6 flights were curated, but the splits hold 7"),
        ("serving", "auc", 0.71, "the served model is not the evaluated one"),
    ],
)
def test_figures_that_contradict_each_other_are_refused(
    part: str, key: str, value: Any, message: str
) -> None:
    figures = copy.deepcopy(SOUND)
    figures[part][key] = value
    with pytest.raises(stages.DemoError, match=message):
        stages._check(figures)


@pytest.mark.parametrize("changed", [{"problem_type": "regression"}, {"estimator": "linear"}])
def test_a_stage_without_two_classifiers_to_compare_is_refused(monkeypatch, tmp_path, changed) -> None:
    configured = context("sandbox")
    configured["stages"]["sandbox"]["training"] |= {"hyperparameters": {}, **changed}
    monkeypatch.setattr(stages, "context", lambda _: configured)
    with pytest.raises(stages.DemoError, match=r"training\.problem_type = classification"):
        stages.run(Namespace(stage="sandbox"), tmp_path, Progress(None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"context": {', "cdk.json: line 1: Expecting property name"),
        ("{}", "cdk.json: context: missing, or not an object."),
        ('{"context": {}}', "cdk.json: context.stages.sandbox: missing."),
        ('{"context": {"stages": {"sandbox": {}}}}', "cdk.json: context.stages.sandbox.name: missing."),
    ],
)
def test_a_wrong_cdk_json_is_one_message(monkeypatch, tmp_path, capsys, text, message) -> None:
    (tmp_path / "cdk.json").write_text(text)
    monkeypatch.setattr(assembly, "ROOT", tmp_path)
    assert run_here("--app", str(tmp_path), "--out", str(tmp_path / "out")) == 1
    assert capsys.readouterr().err.startswith(f"\nfailed during: the start\n{message}")
