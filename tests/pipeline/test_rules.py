"""The ruleset says of each column what the schema says, in DQDL's own words."""

import re

import pytest

from pipeline import schema as schemas
from pipeline.rules import dqdl

SCHEMA = schemas.load("flights")
RULE = re.compile(
    r"""ColumnExists\ "(?P<exists>\w+)"
    | Completeness\ "\w+"\ >=\ (?P<share>[\d.]+)
    | ColumnValues\ "\w+"\ in\ \[("[^"]+",?\ ?)+\]\ with\ threshold\ >=\ [\d.]+
    | CustomSql\ "(?P<sql>select\ avg\(.*\)\ from\ primary)"\ >=\ [\d.]+""",
    re.VERBOSE,
)


def rules(percent=5.0):
    text = dqdl(SCHEMA, percent)
    assert text.startswith("Rules = [\n")
    assert text.endswith("\n]")
    return [line.strip().removesuffix(",") for line in text.splitlines()[1:-1]]


def test_every_rule_is_of_the_named_subset():
    assert [rule for rule in rules() if not RULE.fullmatch(rule)] == []


def test_every_column_must_exist():
    exists = {match["exists"] for rule in rules() if (match := RULE.fullmatch(rule)) and match["exists"]}
    assert exists == {column.name for column in SCHEMA.columns}


@pytest.mark.parametrize(("percent", "share"), [(0.0, "1"), (5.0, "0.95"), (1.0, "0.99"), (0.25, "0.9975")])
def test_the_threshold_is_the_share_that_must_hold(percent, share):
    assert f'Completeness "carrier" >= {share}' in rules(percent)
    assert f'ColumnValues "origin" in ["EWR", "JFK", "LGA"] with threshold >= {share}' in rules(percent)
    assert all(rule.endswith(f" >= {share}") for rule in rules(percent) if rule.startswith("CustomSql"))


def test_a_nullable_column_is_asked_only_to_exist():
    assert [rule for rule in rules() if '"dep_time"' in rule] == ['ColumnExists "dep_time"']


def test_a_closed_list_and_both_ends_of_a_range_are_asked():
    assert 'ColumnValues "origin" in ["EWR", "JFK", "LGA"] with threshold >= 0.95' in rules()
    (month,) = [rule for rule in rules() if "`month`" in rule]
    assert "cast(`month` as double) >= 1 and cast(`month` as double) <= 12" in month


def test_no_rule_fails_for_the_type_that_the_crawler_found():
    """ColumnValues compares with numbers in numeric columns only, and "noon" makes the crawler's column a string."""
    assert [rule for rule in rules() if re.match(r'ColumnValues "\w+" [<>]', rule)] == []


def test_rules_are_separated_by_commas_and_the_last_by_none():
    lines = dqdl(SCHEMA, 5.0).splitlines()[1:-1]
    assert all(line.endswith(",") for line in lines[:-1])
    assert not lines[-1].endswith(",")
