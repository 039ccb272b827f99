"""Tools read assemblies: they synthesize as the CLI does, and say what failed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stacks.config import ConfigError
from tools import assembly as tool
from tools import aws
from tools.assembly import Assembly, SynthError, Template, context, synthesize


def test_an_app_that_fails_is_an_error_with_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(
        SynthError, match=r'failed for stage staging:\ncdk.json: stage = "staging": must be one of'
    ):
        synthesize("staging", tmp_path)


@pytest.mark.deep
def test_tools_read_the_templates_that_the_tests_read(
    tmp_path: Path, assembly: Callable[[str], Assembly]
) -> None:
    made = synthesize("sandbox", tmp_path)
    shared = assembly("sandbox")
    assert {name: template.json for name, template in made.templates.items()} == {
        name: template.json for name, template in shared.templates.items()
    }


def test_a_stack_that_is_not_there_is_an_error_with_the_names_of_those_that_are(
    assembly: Callable[[str], Assembly],
) -> None:
    with pytest.raises(AssertionError, match=r"app\.py makes no stack Delivery, only Foundation, "):
        assembly("sandbox").template("Delivery")


def test_only_insists_on_one() -> None:
    template = Template("S", {"Resources": {"A": {"Type": "T"}, "B": {"Type": "T"}, "C": {"Type": "U"}}})
    assert template.only("U") == {"Type": "U"}
    with pytest.raises(AssertionError, match=r"S has 2 of T, not one: \['A', 'B'\]"):
        template.only("T")


@pytest.fixture(
    params=[
        ('{\n "context": {\n}', "cdk.json: line 3: Expecting ',' delimiter. Mend the JSON there."),
        ("[]", "cdk.json: context: missing, or not an object. Restore it from version control."),
        (
            '{"app": "python app.py"}',
            "cdk.json: context: missing, or not an object. Restore it from version control.",
        ),
        ('{"context": []}', "cdk.json: context: missing, or not an object. Restore it from version control."),
        (None, "cdk.json: No such file or directory. Restore it from version control."),
    ],
    ids=["syntax", "list", "no-context", "context-is-a-list", "missing"],
)
def wrong(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A project whose `cdk.json` cannot be used; what is said of it."""
    text, message = request.param
    if text is not None:
        (tmp_path / "cdk.json").write_text(text)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    return str(message)


def test_a_malformed_cdk_json_is_one_line_that_says_where(wrong: str) -> None:
    with pytest.raises(ConfigError) as raised:
        context("sandbox")
    assert str(raised.value) == wrong


def test_a_malformed_cdk_json_is_one_line_in_every_tool(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(SynthError) as of_templates:
        synthesize("sandbox", tmp_path / "out")
    with pytest.raises(SystemExit) as of_the_account:
        aws.load_config("sandbox")
    assert str(of_templates.value) == of_the_account.value.code == wrong
