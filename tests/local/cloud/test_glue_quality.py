"""The rules that the schema yields are understood, all of them, and judge rows as they say."""

import io
from typing import Any

import pytest

from local.cloud.glue import dqdl, judge
from local.cloud.place import ROOT
from pipeline.rules import dqdl as ruleset
from pipeline.schema import load


def outcome(rule: str, rows: list[list[str | None]]) -> dict[str, Any]:
    (found,) = judge.judge(dqdl.parse(f"Rules = [\n  {rule}\n]"), ["c"], iter([(["c"], rows)]))
    return found


def within(limits: str, share: float) -> str:
    query = f"select avg(case when {limits} then 1.0 else 0.0 end) from primary"  # noqa: S608 - of this file
    return f'CustomSql "{query}" >= {share}'


def rows(*values: str | None) -> list[list[str | None]]:
    return [[value] for value in values]


def test_every_rule_of_the_schema_is_understood() -> None:
    text = ruleset(load("flights"), 5)
    rules = dqdl.parse(text)
    assert [rule.text for rule in rules] == [line.strip().rstrip(",") for line in text.splitlines()[1:-1]]
    assert {rule.kind for rule in rules} == {"ColumnExists", "Completeness", "ColumnValues", "CustomSql"}


@pytest.mark.parametrize(
    "rule",
    [
        "RowCount > 10",
        'Completeness "c" > 0.5',
        'ColumnValues "c" in ["a"]',
        'CustomSql "select count(*) from primary" >= 1',
        within("cast(`a` as double) >= 1 and cast(`b` as double) <= 2", 0.5),
    ],
)
def test_a_rule_beyond_the_subset_is_an_error_that_names_it(rule: str) -> None:
    with pytest.raises(dqdl.DqdlError, match="unsupported in the embedded cloud: ") as error:
        dqdl.parse(f"Rules = [ {rule} ]")
    assert rule in str(error.value)
    assert all(form in str(error.value) for form in dqdl.FORMS)


def test_the_document_names_the_subset() -> None:
    document = (ROOT / "docs/embedded-cloud.md").read_text()
    assert [form for form in dqdl.FORMS if form not in document] == []


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ('Completeness "c" >= 0.5', rows("a", None), rows("a", None, None)),
        ('ColumnValues "c" in ["a, b", "c"] with threshold >= 0.5', rows("a, b", "x"), rows("c", "x", None)),
        (
            within("cast(`c` as double) >= 1 and cast(`c` as double) <= 12", 0.75),
            rows("1", "12", "2.5", "noon"),
            rows("1", "12", "13", None),
        ),
    ],
    ids=["Completeness", "ColumnValues", "CustomSql"],
)
def test_a_rule_passes_from_its_share_on(rule: str, good: list[Any], bad: list[Any]) -> None:
    assert outcome(rule, good)["Result"] == "PASS"
    failed = outcome(rule, bad)
    assert failed["Result"] == "FAIL"
    assert failed["EvaluationMessage"].endswith("does not meet the constraint requirement!")


def test_a_column_that_is_not_there_fails_its_rules() -> None:
    for rule in ('ColumnExists "d"', 'Completeness "d" >= 0'):
        failed = outcome(rule, rows("a"))
        assert (failed["Result"], failed["EvaluationMessage"]) == (
            "FAIL",
            "Input data does not include column d!",
        )
    assert outcome('ColumnExists "c"', [])["Result"] == "PASS"


def test_rows_of_csv_and_json_are_read_as_text() -> None:
    csv = judge.csv_batches(io.StringIO('A,b\n1,"x, y"\n2\n\n,z\n'), ",")
    assert list(csv) == [(["a", "b"], [["1", "x, y"], ["2"], [None, "z"]])]
    lines = judge.json_batches(io.StringIO('{"A": 1, "b": null, "c": ""}\n{"torn": \n[1]\n'))
    assert list(lines) == [(["a", "b", "c"], [["1", None, ""], [None] * 3, [None] * 3])]


def test_files_of_different_headers_and_many_batches_are_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "ROWS", 2)
    files = ("c,d\n1,x\n2,x\n3\n", "d,c\nx,4\n", "d\nx\n")
    batches = (batch for file in files for batch in judge.csv_batches(io.StringIO(file), ","))
    found = judge.judge(
        dqdl.parse('Rules = [Completeness "c" >= 0.8, Completeness "d" >= 0.8]'), ["c", "d"], batches
    )
    shares = [rule["EvaluatedMetrics"] for rule in found]
    assert shares == [{"Column.c.Completeness": 0.8}, {"Column.d.Completeness": 0.8}]
