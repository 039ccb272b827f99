"""The tables of docs/serving.md say what the rules, the rollouts and the prices say."""

import copy
import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from stacks.config import ConfigError, load
from stacks.serving_rules import OPTIONS, Feature, Option
from tools import tables
from tools.assembly import Assembly, context


def cells(table: str) -> list[list[str]]:
    """The rows below the head, by their cells."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_committed_tables_are_what_is_there(complete: Callable[[str], Assembly]) -> None:
    page = tables.PAGE.read_text()
    assert page == tables.filled(page, tables.blocks(complete(tables.STAGE))), "write them again: make tables"


def test_the_page_asks_for_every_table_once(complete: Callable[[str], Assembly]) -> None:
    asked = [name for _, name, _ in tables.BLOCK.findall(tables.PAGE.read_text())]
    assert sorted(asked) == sorted(tables.blocks(complete(tables.STAGE)))


def test_a_table_that_drifted_is_written_again() -> None:
    page = "before\n<!-- made by make tables: costs -->\nold\n<!-- end -->\nafter"
    assert tables.filled(page, {"costs": "new"}) == page.replace("old", "\nnew\n")


@pytest.mark.parametrize(("option", "feature"), [*itertools.product(Option, Feature)])
def test_a_cell_says_who_refuses_and_names_its_reason(option: Option, feature: Feature) -> None:
    rule = OPTIONS[option][feature]
    made = tables.combinations()
    cell = cells(made)[[*Feature].index(feature)][1 + [*Option].index(option)]
    found = re.fullmatch(r"(yes|\*\*no\*\*|not here) \((\d+)\)", cell)
    assert found
    assert found[1] == {None: "yes", "AWS": "**no**", "us": "not here"}[rule.refused_by]
    [reason] = [line for line in made.splitlines() if line.startswith(f"{found[2]}. ")]
    assert reason.endswith(f"*{rule.source}*")
    assert rule.why[1:] in reason
    assert rule.remedy[1:] in reason


@pytest.mark.parametrize("example", tables.EXAMPLES, ids=lambda example: str(example["strategy"]))
def test_an_example_can_be_taken_as_it_stands_in_production(example: dict[str, Any]) -> None:
    changed = copy.deepcopy(context("production"))
    changed["stages"]["production"]["serving"]["rollout"] = example
    assert load(changed).serving.rollout.strategy == example["strategy"]


def test_traffic_moves_by_whole_instances_at_the_times_of_the_bakes() -> None:
    shown = [(row[1], row[3:]) for row in cells(tables.rollouts())[-4:]]
    assert shown == [
        ("CANARY", ["25 % 0:00, 100 % 5:00", "8:00", "8"]),
        ("LINEAR", ["25 % 0:00, 50 % 5:00, 75 % 10:00, 100 % 15:00", "18:00", "8"]),
        ("ALL_AT_ONCE", ["100 % 0:00", "3:00", "8"]),
        ("ROLLING", ["25 % 0:00, 50 % 5:00, 75 % 10:00, 100 % 15:00", "20:00", "5"]),
    ]


def test_the_examples_that_the_sandbox_refuses_are_named_above_them() -> None:
    changed = copy.deepcopy(context("sandbox"))
    refused = []
    for number, example in enumerate(tables.EXAMPLES, start=1):
        changed["stages"]["sandbox"]["serving"]["rollout"] = example
        try:
            load(changed)
        except ConfigError:
            refused.append(str(number))
    text, _ = tables.rollouts().split("```json")
    [said] = [line for line in text.splitlines() if "`sandbox` refuses " in line]
    assert re.findall(r"\d+", said.split("refuses")[1]) == refused
