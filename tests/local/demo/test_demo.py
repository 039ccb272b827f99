"""The demo, small and whole: interrupted once, run again, and what its report says about itself."""

import base64
import contextlib
import html.parser
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.cloud import lifecycle
from local.demo import __main__ as demo
from local.demo import account, report
from tools.assembly import ROOT, Assembly

FLIGHTS = 6000  # fewer hold no leaf of min_child_weight: nothing would be learnt


def lower_the_gate(original: Path, copy: Path) -> Path:
    """A copy of an assembly whose quality gate any model passes: a few thousand flights are too few for the real one."""
    shutil.copytree(original, copy)
    path = copy / "Training.template.json"
    template = json.loads(path.read_text())
    [pipeline] = [r for r in template["Resources"].values() if r["Type"] == "AWS::SageMaker::Pipeline"]
    substitution = pipeline["Properties"]["PipelineDefinition"]["PipelineDefinitionBody"]["Fn::Sub"]
    definition = json.loads(substitution[0])
    [gate] = [step for step in definition["Steps"] if step["Type"] == "Condition"]
    for condition in gate["Arguments"]["Conditions"]:
        condition["RightValue"] = 0.1
    substitution[0] = json.dumps(definition)
    path.write_text(json.dumps(template))
    return copy


def processes_that_know(folder: Path) -> list[str]:
    """Command lines of the running processes that name `folder` or work in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in command or (process / "cwd").readlink().is_relative_to(folder):
                found.append(command)
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def app(assembly: Callable[[str], Assembly], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lower_the_gate(assembly("sandbox").path, tmp_path_factory.mktemp("app") / "cdk.out")


def start(out: Path, app: Path) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "local.demo",
        "--flights",
        str(FLIGHTS),
        "--app",
        str(app),
        "--out",
        str(out),
    ]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process: "subprocess.Popen[str]", line: str) -> None:
    while line not in (printed := process.stdout.readline()):
        assert printed, process.stderr.read()


@pytest.fixture(scope="module")
def interrupted(
    app: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    """A demo that got SIGTERM while Spark ran, in a folder with an older report."""
    out = tmp_path_factory.mktemp("out")
    (out / report.HTML).write_text("of an earlier run")
    with start(out, app) as process:
        wait_for(process, "Crawl, check and curate")
        process.send_signal(signal.SIGTERM)
        printed, errors = process.communicate(timeout=30)
    return out, subprocess.CompletedProcess([], process.returncode, printed, errors)


@pytest.mark.deep  # a demo of its own
def test_an_interrupted_demo_says_so_and_leaves_no_process_and_no_report(interrupted) -> None:
    out, ended = interrupted
    assert ended.returncode == 128 + signal.SIGTERM
    assert "stopped during: Crawl, check and curate" in ended.stdout
    assert ended.stderr == ""
    assert processes_that_know(out) == []
    assert [path.name for path in out.iterdir()] == [".lock"]


def run_here(*arguments: str) -> int:
    """The demo in this process, so that its coverage is measured; returns its exit code."""
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        return demo.main(arguments)
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)


@pytest.fixture(scope="module")
def reports() -> list[str]:
    """What `make iam-report` says about the clouds of finished demos."""
    return []


@pytest.fixture(scope="module")
def finished(app: Path, interrupted, reports: list[str]) -> Path:
    """The folder of a demo that was run where one was interrupted before."""
    out, _ = interrupted

    @contextlib.contextmanager
    def reported(folder: Path) -> Iterator[account.Account]:
        with demo_account(folder) as cloud:
            yield cloud
            command = [lifecycle.PYTHON, "-m", "local.cloud.iam_report", "--folder", cloud.place.folder]
            here = cloud.place.environment()
            done = subprocess.run(command, cwd=ROOT, env=here, capture_output=True, text=True, check=False)
            reports.append(done.stdout + done.stderr)

    demo_account = account.account
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(account, "account", reported)
        assert run_here("--flights", str(FLIGHTS), "--app", str(app), "--out", str(out)) == 0
    return out


@pytest.fixture(scope="module")
def figures(finished: Path) -> Any:
    return json.loads((finished / report.JSON).read_text())


def test_a_finished_demo_leaves_its_report_and_no_process(finished: Path) -> None:
    assert processes_that_know(finished) == []
    names = {path.name for path in finished.iterdir()}
    assert names == {
        ".lock",
        report.HTML,
        report.JSON,
        "roc.png",
        "precision_recall.png",
        "calibration.png",
        "confusion_matrix.png",
    }


@pytest.mark.usefixtures("finished")
def test_the_demo_uses_every_permission_of_every_role_or_the_table_excuses_it(reports: list[str]) -> None:
    """But two: only a second curation removes and reads what the first one published."""
    (said,) = reports
    assert {*re.findall(r"^(.*): \d+ granted", said, re.MULTILINE)} > {
        "flights-sandbox-processing CurateRole",
        "flights-sandbox-ingestion ConsumerPredictRole",
    }
    role, unseen = "", set()
    for line in said.splitlines():
        role = found[1] if (found := re.match(r"\S+ (\w+): \d+ granted", line)) else role
        if found := re.match(r"! +unseen: (\S+) on ", line):
            unseen.add((role, found[1]))
    assert unseen == {("CurateRole", "s3:DeleteObject"), ("CurateRole", "s3:GetObject")}


def test_every_record_of_the_demo_is_accounted_for(figures: Any) -> None:
    data = figures["data"]
    parts = [data[name] for name in ("rows_out", "quarantined", "duplicates", "excluded")]
    assert data["rows_in"] == sum(parts)
    assert min(parts) > 0
    assert data["rows_in"] == sum(source["rows_in"] for source in data["sources"].values())
    assert data["quarantined"] + data["excluded"] == sum(reason["records"] for reason in data["reasons"])
    assert sum(split["rows"] for split in figures["splits"].values()) == data["rows_out"]


def test_every_injected_fault_is_found(figures: Any) -> None:
    data = figures["data"]
    assert len(data["faults"]) == 5
    for fault in data["faults"]:
        assert fault["injected"] == fault["found"] > 0, fault
    injected = {fault["fault"]: fault["injected"] for fault in data["faults"]}
    assert data["rows_in"] == FLIGHTS + injected["duplicate"]


def test_the_model_is_judged_on_later_flights_than_it_saw(figures: Any) -> None:
    splits = figures["splits"]
    assert splits["train"]["last"] < splits["validation"]["first"]
    assert splits["validation"]["last"] < splits["test"]["first"]


def test_what_is_served_is_what_was_registered(figures: Any) -> None:
    assert figures["serving"]["auc"] == pytest.approx(figures["model"]["gate"]["model"], abs=1e-9)
    assert figures["serving"]["records"] == figures["splits"]["test"]["rows"]
    assert figures["serving"]["largest_difference"] == 0
    assert figures["package"]["model_data_url"].endswith("/model.tar.gz")
    assert figures["package"]["approval"] == "Approved"
    assert figures["serving"]["endpoint"] == "flights-sandbox"
    for flight in figures["serving"]["shown"]:
        assert flight["truth"] == ("late" if flight["delay"] > 15 else "on time")


class Page(html.parser.HTMLParser):
    """The figures of a page by their place in the structure, its pictures, and whatever it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.figures: dict[str, str] = {}
        self.pictures: list[str] = []
        self.fetched: list[str] = []
        self._at: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._at = dict(attrs).get("data-figure")
        for name, value in attrs:
            if name in {"src", "href"}:
                (
                    self.pictures if (value or "").startswith("data:image/png;base64,") else self.fetched
                ).append(value or "")

    def handle_data(self, data: str) -> None:
        if self._at:
            self.figures[self._at] = data
            self._at = None


def close(shown: str, value: object) -> bool:
    """Whether a shown text is this value, rounded as the text is."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(shown.replace(",", ""))
        decimals = len(shown.partition(".")[2]) if "e" not in shown else 12
        return abs(number - value) <= 0.5 * 10**-decimals + 1e-9
    return shown == str(value)


def test_the_page_shows_the_figures_of_the_json_report(finished: Path, figures: Any) -> None:
    page = Page((finished / report.HTML).read_text())
    assert len(page.figures) > 100
    for at, shown in page.figures.items():
        assert close(shown, report.look_up(figures, at)), at
    for needed in (
        "data.rows_in",
        "data.rows_out",
        "model.gate.model",
        "model.gate.baseline",
        "splits.test.first",
        "seconds",
    ):
        assert needed in page.figures


def test_the_page_is_one_file_with_its_plots(finished: Path) -> None:
    page = Page((finished / report.HTML).read_text())
    assert page.fetched == []
    assert [base64.b64decode(picture.partition(",")[2])[:4] for picture in page.pictures] == [b"\x89PNG"] * 4


def test_a_second_demo_in_the_same_place_is_refused_while_one_runs(tmp_path: Path) -> None:
    with (
        demo.workplace(tmp_path),
        pytest.raises(SystemExit, match="another demo is running"),
        demo.workplace(tmp_path),
    ):
        pytest.fail("it started")


@pytest.mark.parametrize("flights", [0, 336_777])
def test_a_number_of_flights_that_there_are_not_is_refused_before_anything_is_deployed(
    flights: int, tmp_path: Path, capsys
) -> None:
    assert run_here("--flights", str(flights), "--out", str(tmp_path)) == 1
    assert capsys.readouterr().err == f"--flights = {flights}: must be from 1 to 336776.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_negative_seed_is_refused_before_anything_is_deployed(tmp_path: Path, capsys) -> None:
    assert run_here("--seed", "-1", "--out", str(tmp_path)) == 1
    assert capsys.readouterr().err == "--seed = -1: must be 0 or more.\n"
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_stage_is_one_message(app: Path, tmp_path: Path, capsys) -> None:
    assert run_here("--stage", "staging", "--app", str(app), "--out", str(tmp_path)) == 1
    assert "--stage = staging: must be one of sandbox, production." in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_folder_without_templates_is_named(tmp_path: Path, capsys) -> None:
    assert run_here("--app", str(tmp_path), "--out", str(tmp_path / "out")) == 1
    assert f"--app = {tmp_path}: holds no manifest.json" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"--out = .*Not a directory"):
        run_here("--out", str(tmp_path / "file" / "out"))


def test_a_missing_package_names_the_command_that_installs_it(tmp_path: Path) -> None:
    program = "import sys; sys.modules['boto3'] = None; from local.demo.__main__ import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "The Python package boto3 is missing. `make demo` installs it: run that.\n"


@pytest.mark.deep
@pytest.mark.parametrize(
    "line", ["Synthesize", "Deploy", "Replay", "Crawl", "Prepare", "TrainBaseline", "Approve", "Ask"]
)
def test_a_demo_interrupted_at_any_point_leaves_nothing(
    assembly, app: Path, tmp_path: Path, line: str
) -> None:
    command = [sys.executable, "-m", "local.demo", "--flights", str(FLIGHTS), "--out", str(tmp_path)]
    command += [] if line == "Synthesize" else ["--app", str(app)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(process, line)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (128 + signal.SIGINT, "")
    assert processes_that_know(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.deep
def test_a_killed_demo_can_be_run_again(app: Path, tmp_path: Path) -> None:
    with start(tmp_path, app) as process:
        wait_for(process, "Crawl, check and curate")
        process.kill()
    assert (tmp_path / ".work").is_dir()
    assert run_here("--flights", str(FLIGHTS), "--app", str(app), "--out", str(tmp_path)) == 0
    assert (tmp_path / report.HTML).exists()
    assert not (tmp_path / ".work").exists()


@pytest.mark.deep
def test_a_model_below_the_gate_ends_the_demo_with_the_gate_s_reason(
    assembly, tmp_path: Path, capsys
) -> None:
    real = str(assembly("sandbox").path)
    assert run_here("--flights", str(FLIGHTS), "--app", real, "--out", str(tmp_path)) == 1
    assert (
        "step QualityTooLow: The model is not registered: its auc on the test split is"
        in capsys.readouterr().err
    )
    assert not (tmp_path / report.JSON).exists()
