"""A short rollout that really happens, the whole command, and how it ends before its time."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local import registry
from local.demo import account as accounts
from local.demo.progress import Progress
from local.rollout import __main__ as command
from local.rollout import figure, models, play, report
from local.rollout.played import Setting
from local.rollout.stage import IMAGE, Stage
from local.rollout.timeline import Timeline
from stacks import config as configuration
from stacks.foundation.model_role import IMAGE_REPOSITORY
from stacks.training.image import TAG
from tests.local.demo.test_demo import processes_that_know
from tests.pipeline.conftest import run_train
from tools.assembly import ROOT, Assembly, context


@pytest.fixture(scope="module")
def app(assembly: Callable[[str], Assembly], tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """The sandbox, but a good model may be slow: on a busy machine every model is."""
    original = assembly("sandbox").path
    copy = shutil.copytree(original, tmp_path_factory.mktemp("app") / "cdk.out")
    path = copy / "Serving.template.json"
    template = json.loads(path.read_text())
    [latency] = [it for name, it in template["Resources"].items() if name.startswith("AlarmsLatency")]
    latency["Properties"]["Threshold"] *= 20
    path.write_text(json.dumps(template))
    return Assembly("sandbox", copy)


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    first, second = (
        run_train(prepared, folder / str(rounds), "xgboost", f"--num_round={rounds}") for rounds in (5, 10)
    )
    return first, second


@pytest.fixture(scope="module")
def setting() -> Setting:
    return play.setting(configuration.load(context("sandbox")))


@pytest.fixture(scope="module")
def played(app: Assembly, trained: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """A good and a failing version, under eight requests a second."""
    work = tmp_path_factory.mktemp("work")
    versions = models.versions(*trained, work / "versions", 1.5)
    request = work / "request.json"
    request.write_bytes(registry.probe(trained[0]))
    with accounts.account(work / "cloud") as cloud, pytest.MonkeyPatch.context() as patched:
        patched.setattr(play, "_QUIET_SECONDS", 0.5)
        cloud.deploy(app)
        stage = Stage.of(cloud, "flights-sandbox")
        names = (play.GOOD, play.FAILING)
        return play.play(stage, versions, names, request, 8, work, Progress(sys.stdout, total=3))


@pytest.mark.deep
def test_a_good_version_takes_over_and_a_failing_one_is_taken_back_within_the_bounds(
    played: Timeline, setting: Setting, tmp_path: Path
) -> None:
    setting = Setting(setting.factor, setting.canary, 20 * setting.threshold)
    found = report.report(played, setting, rate=8, rollback="told")
    assert report.broken(found) == []
    good, failing = found["deployments"]
    assert (good["ending"], good["failed"]) == ("in service", 0)
    assert (failing["ending"], failing["stack"]) == ("rolled back", "UPDATE_ROLLBACK_COMPLETE")
    assert failing["failed_by_kind"].keys() == {"ModelError"}
    assert (good["alarms"], failing["alarms"]) == ([], ["Errors"])
    assert [(it["version_before"], it["version_after"]) for it in (good, failing)] == [(1, 2), (2, 2)]
    assert failing["reason"].startswith("Rollback alarm flights-sandbox-serving-AlarmsErrors")
    assert failing["aws_seconds"]["first_bad_answer_to_full_rollback"] > 0
    figure.write(report.played(played, setting), tmp_path)


@pytest.mark.deep
def test_the_clients_own_count_agrees_with_the_stages(played: Timeline, setting: Setting) -> None:
    good, _ = report.played(played, setting)
    before = [good.of_new(it) for it in good.requests if it.due < good.canary_at - 1]
    after = [good.of_new(it) for it in good.requests if it.due > good.full_at]
    assert {False} == set(before)
    assert {True} == set(after)


def test_the_versions_are_registered_with_the_image_that_training_names() -> None:
    assert IMAGE.endswith(f"/{IMAGE_REPOSITORY}:{TAG}")


def run_here(*arguments: str) -> int:
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        return command.main(arguments)
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)


@pytest.mark.parametrize("rate", ["0", "61"])
def test_a_rate_that_is_none_is_refused_before_anything_is_deployed(
    rate: str, tmp_path: Path, capsys
) -> None:
    assert run_here("--rate", rate, "--out", str(tmp_path)) == 1
    assert capsys.readouterr().err == f"--rate = {rate}: must be from 1 to 60.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_templates_is_named(tmp_path: Path, capsys) -> None:
    assert run_here("--app", str(tmp_path), "--out", str(tmp_path / "out")) == 1
    assert f"--app = {tmp_path}: holds no manifest.json" in capsys.readouterr().err


def test_a_broken_bound_is_exit_code_1_and_is_named(tmp_path: Path, monkeypatch, capsys) -> None:
    from tests.local.rollout.written import SETTING, failing_at, timeline  # noqa: PLC0415

    made = failing_at(timeline(good=True), 9.0)
    monkeypatch.setattr(play, "run", lambda *_: (made, SETTING))
    assert run_here("--out", str(tmp_path)) == 1
    assert capsys.readouterr().err == "BROKEN: good: failed requests: 1, more than 0\n"
    assert {path.name for path in tmp_path.iterdir()} == {".lock", *command.WRITTEN}


def test_bounds_that_hold_are_exit_code_0(tmp_path: Path, monkeypatch, capsys) -> None:
    from tests.local.rollout.written import SETTING, timeline  # noqa: PLC0415

    monkeypatch.setattr(play, "run", lambda *_: (timeline(good=True), SETTING))
    assert run_here("--out", str(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert "good     in service by canary, 0 of 120 requests failed" in printed
    assert f"Picture: {tmp_path / 'rollout.png'}" in printed


def test_an_interrupted_rollout_says_so_and_leaves_no_process(app: Assembly, tmp_path: Path) -> None:
    (tmp_path / "rollout.png").write_text("of an earlier run")
    line = [sys.executable, "-m", "local.rollout", "--app", str(app.path), "--out", str(tmp_path)]
    with subprocess.Popen(
        line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while "Train" not in (printed := process.stdout.readline()):
            assert printed, process.stderr.read()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        printed, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped during: Train two models on real flights" in printed
    assert errors == ""
    assert processes_that_know(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.deep
@pytest.mark.parametrize("rollback", ["told", "silent"])
def test_the_whole_command_keeps_every_bound(rollback: str, assembly, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "local.rollout", "--rollback", rollback, "--out", str(tmp_path)]
    line += ["--app", str(assembly("sandbox").path)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    found = json.loads((tmp_path / command.REPORT).read_text())
    assert [it["ending"] for it in found["deployments"]] == ["in service", "rolled back", "rolled back"]
    assert processes_that_know(tmp_path) == []
    assert {path.name for path in tmp_path.iterdir()} == {".lock", *command.WRITTEN}


@pytest.mark.deep
@pytest.mark.parametrize(
    ("line", "stage", "number"),
    [
        ("Deploy", "Deploy into the embedded cloud", signal.SIGINT),
        ("Approve the first", "Approve the first version, without load", signal.SIGTERM),
        ("Approve the slow", "Approve the slow model, under 20 requests a second", signal.SIGTERM),
        ("alarm Latency rings", "Approve the slow model, under 20 requests a second", signal.SIGINT),
    ],
    ids=["deploy", "first", "slow", "alarm"],
)
def test_a_rollout_interrupted_at_any_point_says_so_and_leaves_nothing(
    line: str, stage: str, number: signal.Signals, assembly, tmp_path: Path
) -> None:
    arguments = ["--app", str(assembly("sandbox").path), "--out", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-m", "local.rollout", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while line not in (printed := process.stdout.readline()):
            assert printed
        time.sleep(0.5)
        process.send_signal(number)
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    said = f"stopped during: {stage}. Nothing is left running; start again at any time."
    assert printed.splitlines()[-1] == said
    assert errors == ""
    assert processes_that_know(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
