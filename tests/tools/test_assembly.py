"""Tools read assemblies: they synthesize as the CLI does, and say what failed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tools.assembly import Assembly, SynthError, Template, synthesize


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
