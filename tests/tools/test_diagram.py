"""The picture in the README is drawn from the templates: it is current, and an arrow goes when its trigger goes."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.changed import Resources, changed
from tools import diagram
from tools.assembly import Assembly, SynthError
from tools.diagram import DiagramError, picture
from tools.flow import SHOWN, Flow, FlowError

Arrow = tuple[str, str, str, bool]


@pytest.fixture(scope="module")
def sandbox(assembly: Callable[[str], Assembly]) -> Assembly:
    return assembly("sandbox")


def arrows(assembly: Assembly) -> set[Arrow]:
    flow = Flow(assembly)
    return {(flow.title(edge.source), flow.title(edge.target), edge.label, edge.on) for edge in flow.edges()}


def names(resources: Resources, kind: str) -> list[str]:
    return [name for name, resource in resources.items() if resource["Type"] == kind]


def test_the_committed_picture_is_what_the_templates_say(sandbox: Assembly) -> None:
    assert diagram.FLOW.read_text() == picture(Flow(sandbox)), "draw it again: make diagram"


def test_the_main_path_is_there(sandbox: Assembly) -> None:
    on, off = True, False
    assert {
        ("Stream", "Archive", "", on),
        ("Stream", "Consumer", "", on),
        ("Archive", "Raw", "", on),
        ("Raw", "Raw crawler", "", on),
        ("Raw crawler", "Quality gate", "", on),
        ("Quality gate", "Curate", "", on),
        ("Curate", "Curated", "Parquet", on),
        ("Curate", "Curated crawler", "", on),
        ("Curated crawler", "Pipeline", "", off),
        ("Curated", "Pipeline", "", on),
        ("Starts", "Pipeline", "", off),
        ("Pipeline", "Models", "register", on),
        ("Models", "Approvals", "approved", on),
        ("Approvals", "Endpoint", "update", on),
        ("Endpoint", "Rollouts", "", on),
        ("Rollouts", "Endpoint", "update", on),
        ("Consumer", "Endpoint", "invoke", on),
        ("Endpoint", "Artifacts", "data capture", on),
    } <= arrows(sandbox)


def test_every_construct_on_the_flow_has_a_place(sandbox: Assembly) -> None:
    titles = {title for arrow in arrows(sandbox) for title in arrow[:2]}
    assert titles == diagram.PLACES.keys()


def test_without_its_trigger_an_arrow_is_gone(sandbox: Assembly) -> None:
    def without_curation(resources: Resources) -> None:
        for name in names(resources, "AWS::Glue::Trigger"):
            if "JobName" in json.dumps(resources[name]["Properties"].get("Predicate", {})):
                del resources[name]

    gone = arrows(sandbox) - arrows(changed(sandbox, "Processing", without_curation))
    assert gone == {("Quality gate", "Curate", "", True), ("Curate", "Curated crawler", "", True)}


def test_without_its_rule_an_approval_releases_nothing(sandbox: Assembly) -> None:
    def without_rules(resources: Resources) -> None:
        for name in names(resources, "AWS::Events::Rule"):
            del resources[name]

    gone = arrows(sandbox) - arrows(changed(sandbox, "Release", without_rules))
    assert gone == {("Models", "Approvals", "approved", True), ("Endpoint", "Rollouts", "", True)}


def test_a_rule_that_is_switched_on_is_drawn_solid(sandbox: Assembly) -> None:
    def switch_on(resources: Resources) -> None:
        for name in names(resources, "AWS::Events::Rule"):
            resources[name]["Properties"]["State"] = "ENABLED"

    assert ("Curated crawler", "Pipeline", "", True) in arrows(changed(sandbox, "Training", switch_on))
    dashed = [
        picture(Flow(a)).count("stroke-dasharray") for a in (sandbox, changed(sandbox, "Training", switch_on))
    ]
    assert dashed[0] == dashed[1] + 1


def test_the_picture_names_every_stack_and_every_construct(sandbox: Assembly) -> None:
    drawn = picture(Flow(sandbox))
    texts = set(re.findall(r">([^<>]+)</text>", drawn))
    assert set(diagram.COLOURS) - {"Foundation"} <= texts
    assert {diagram.TITLES.get(title, title) for title in diagram.PLACES} <= texts
    assert "put back" in texts


def test_a_new_construct_is_drawn_below_the_rest_until_it_has_a_place(sandbox: Assembly) -> None:
    flow = Flow(sandbox)
    (stream,) = [node for node in flow.resources if flow.kind(node) == "AWS::Kinesis::Stream"]
    places = dict(diagram.PLACES)
    try:
        del diagram.PLACES["Stream"]  # type: ignore[attr-defined]
        assert "Kinesis Data Stream" in picture(flow)
        assert max(row for _, row in diagram.PLACES.values()) < 7.5
    finally:
        diagram.PLACES["Stream"] = places["Stream"]  # type: ignore[index]
    assert stream[0] == "Ingestion"


def test_graphviz_that_fails_says_what_is_missing() -> None:
    with pytest.raises(DiagramError, match="npm ci"):
        diagram.render("digraph {")


def test_an_assembly_without_paths_is_refused(sandbox: Assembly, tmp_path: Path) -> None:
    broken = Assembly("sandbox", shutil.copytree(sandbox.path, tmp_path / "broken"))
    (broken.path / "Ingestion.metadata.json").write_text("{}")
    flow = Flow(broken)
    with pytest.raises(FlowError, match=r"no construct path in Ingestion\.metadata\.json"):
        flow.title(next(node for node in flow.resources if node[0] == "Ingestion"))


def test_every_service_on_the_flow_is_named_as_aws_names_it() -> None:
    assert all(kind.startswith("AWS::") for kind in SHOWN)


def test_the_command_writes_the_file_and_checks_it(
    sandbox: Assembly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(diagram, "synthesize", lambda *_: sandbox)
    monkeypatch.setattr(diagram, "ROOT", tmp_path)
    monkeypatch.setattr(diagram, "FLOW", tmp_path / "docs" / "flow.svg")
    monkeypatch.setattr(diagram, "render", lambda _: '<polygon points=""/>\n</g>\n</svg>')
    assert diagram.main(["--check"]) == 1
    assert diagram.main([]) == 0
    assert diagram.main(["--check"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "docs/flow.svg is out of date. Draw it again: make diagram.",
        "Drawn: docs/flow.svg",
        "docs/flow.svg is current.",
    ]


def test_the_command_passes_on_why_the_app_did_not_synthesize(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> Assembly:
        raise SynthError("cdk.json: one line")

    monkeypatch.setattr(diagram, "synthesize", fail)
    assert diagram.main([]) == 1
    assert capsys.readouterr().err == "cdk.json: one line\n"


def test_graphviz_that_draws_nothing_is_an_error(sandbox: Assembly, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagram, "render", lambda _: "<svg/>")
    with pytest.raises(DiagramError, match="drew nothing"):
        picture(Flow(sandbox))
