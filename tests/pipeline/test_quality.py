"""The quality gate: every failed rule is named, a run that fails is no pass, and a missing table is no failure."""

import botocore.exceptions
import pytest

from pipeline import quality

ARGUMENTS = [
    "--database",
    "db",
    "--tables",
    "raw_batch,raw_stream",
    "--ruleset",
    "rules",
    "--role",
    "arn:role",
]
PASS = {"Name": "Rule_1", "Description": 'ColumnExists "carrier"', "Result": "PASS"}
FAIL = {
    "Name": "Rule_2",
    "Description": 'Completeness "carrier" >= 0.95',
    "Result": "FAIL",
    "EvaluationMessage": "Value: 0.5 does not meet the constraint requirement!",
}


class Glue:
    """The calls of the gate, answered from what the test says of each table."""

    def __init__(self, tables, *, statuses=("RUNNING", "SUCCEEDED"), error=None):
        self.tables, self.statuses, self.error = tables, statuses, error
        self.started, self.polls = [], {}

    def get_table(self, *, DatabaseName, Name):  # noqa: N803
        if Name not in self.tables:
            error = {"Error": {"Code": "EntityNotFoundException", "Message": Name}}
            raise botocore.exceptions.ClientError(error, "GetTable")
        return {"Table": {"StorageDescriptor": {"Location": f"s3://raw/{Name.removeprefix('raw_')}/"}}}

    def start_data_quality_ruleset_evaluation_run(self, *, DataSource, Role, RulesetNames):  # noqa: N803
        assert (Role, RulesetNames) == ("arn:role", ["rules"])
        self.started.append(DataSource["GlueTable"]["TableName"])
        return {"RunId": self.started[-1]}

    def get_data_quality_ruleset_evaluation_run(self, *, RunId):  # noqa: N803
        poll = self.polls[RunId] = self.polls.get(RunId, -1) + 1
        state = {"Status": self.statuses[poll], "ResultIds": [RunId]}
        return state | ({"ErrorString": self.error} if self.error else {})

    def get_data_quality_result(self, *, ResultId):  # noqa: N803
        return {"RuleResults": self.tables[ResultId]}


class S3:
    """A bucket with one object in each folder, of the size the test says."""

    def __init__(self, **sizes):
        self.sizes = {"batch/": 10, "stream/": 10} | {f"{folder}/": size for folder, size in sizes.items()}

    def list_objects_v2(self, *, Bucket, Prefix):  # noqa: N803
        assert Bucket == "raw"
        size = self.sizes[Prefix]
        return {} if size is None else {"Contents": [{"Key": f"{Prefix}x", "Size": size}]}


def judge(glue, **sizes):
    waits = []
    quality.main([*ARGUMENTS, "--job-language", "python"], glue=glue, s3=S3(**sizes), wait=waits.append)
    return waits


def test_the_gate_opens_when_every_rule_passes_on_every_table():
    glue = Glue({"raw_batch": [PASS], "raw_stream": [PASS]})
    assert judge(glue) == [quality.POLL_SECONDS] * 4
    assert glue.started == ["raw_batch", "raw_stream"]


def test_a_failed_rule_is_named_with_its_table_and_the_other_table_is_still_judged():
    glue = Glue({"raw_batch": [FAIL, PASS], "raw_stream": [FAIL]})
    with pytest.raises(quality.QualityError) as caught:
        judge(glue)
    message = str(caught.value)
    assert message.startswith("2 rule(s) failed")
    assert 'db.raw_batch: FAIL: Completeness "carrier" >= 0.95 (Value: 0.5' in message
    assert "db.raw_stream: FAIL" in message


def test_a_rule_in_error_is_no_pass():
    with pytest.raises(quality.QualityError, match="ERROR"):
        judge(Glue({"raw_batch": [PASS | {"Result": "ERROR"}]}))


def test_a_run_without_rules_is_no_pass():
    with pytest.raises(quality.QualityError, match="evaluated no rule"):
        judge(Glue({"raw_stream": []}))


@pytest.mark.parametrize("status", ["FAILED", "TIMEOUT", "STOPPED"])
def test_a_run_that_does_not_succeed_says_why(status):
    glue = Glue({"raw_batch": [PASS]}, statuses=["RUNNING", "STOPPING", status], error="no permission")
    with pytest.raises(quality.QualityError, match=f"ended as {status}: no permission"):
        judge(glue)


def test_a_table_that_the_crawler_never_made_is_left_out(capsys):
    glue = Glue({"raw_stream": [PASS]})
    judge(glue)
    assert glue.started == ["raw_stream"]
    assert "db.raw_batch: no such table" in capsys.readouterr().out


@pytest.mark.parametrize("size", [None, 0], ids=["no object", "an empty object"])
def test_a_table_whose_uploads_have_expired_is_left_out(size, capsys):
    glue = Glue({"raw_batch": [FAIL], "raw_stream": [PASS]})
    judge(glue, batch=size)
    assert glue.started == ["raw_stream"]
    assert "db.raw_batch: no data under s3://raw/batch/" in capsys.readouterr().out


def test_no_data_at_all_says_what_to_do():
    with pytest.raises(quality.QualityError, match="raw_batch, raw_stream has data"):
        judge(Glue({"raw_batch": [PASS], "raw_stream": [PASS]}), batch=None, stream=None)


def test_no_table_at_all_says_what_to_do():
    with pytest.raises(quality.QualityError, match="run the raw crawler"):
        judge(Glue({}))


def test_a_refused_call_is_not_taken_for_a_missing_table():
    class Refuses(Glue):
        def get_table(self, **_):
            error = {"Error": {"Code": "AccessDeniedException", "Message": "no"}}
            raise botocore.exceptions.ClientError(error, "GetTable")

    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        judge(Refuses({}))
