"""The quality gate: evaluate the ruleset on the raw tables, and fail when a rule fails.

A Glue trigger can start jobs and crawlers, not evaluation runs, so this job starts the runs, waits and judges; a
failed job stops the workflow before any row reaches the curated table. Task 1.3 of the exam guide (data quality).
Source: "Evaluating data quality with AWS Glue Data Quality", AWS Glue User Guide.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import boto3
import botocore.exceptions

POLL_SECONDS = 15
RUNNING = {"STARTING", "RUNNING", "STOPPING"}


class QualityError(Exception):
    """The gate stays shut: the message names the table, what is wrong, and the remedy."""


def with_data(glue: Any, s3: Any, database: str, tables: Sequence[str]) -> list[str]:
    """Those of `tables` that have data: a folder that never got a file has no table, one whose files expired no object.

    Raises `QualityError` if there is none.
    """
    found = []
    for table in tables:
        try:
            described = glue.get_table(DatabaseName=database, Name=table)["Table"]
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "EntityNotFoundException":
                raise
            print(f"{database}.{table}: no such table, nothing to judge")
        else:
            location = described["StorageDescriptor"]["Location"]
            bucket, _, folder = location.removeprefix("s3://").partition("/")
            objects = s3.list_objects_v2(Bucket=bucket, Prefix=folder.rstrip("/") + "/").get("Contents", [])
            # The console marks a folder by an object without content.
            if any(item["Size"] for item in objects):
                found.append(table)
            else:
                print(f"{database}.{table}: no data under {location}, nothing to judge")
    if not found:
        raise QualityError(
            f"{database}: none of the tables {', '.join(tables)} has data. Send data, then run the raw crawler."
        )
    return found


def evaluate(
    glue: Any,
    *,
    database: str,
    table: str,
    ruleset: str,
    role: str,
    wait: Callable[[float], None] = time.sleep,
) -> list[dict[str, Any]]:
    """Run the ruleset on one table and return the outcome of each rule ("RuleResults", GetDataQualityResult).

    Glue's own time-out ends a run that hangs; the job's time-out ends this wait. Raises `QualityError` if the run
    itself does not succeed.
    """
    run = glue.start_data_quality_ruleset_evaluation_run(
        DataSource={"GlueTable": {"DatabaseName": database, "TableName": table}},
        Role=role,
        RulesetNames=[ruleset],
    )["RunId"]
    status = "STARTING"
    while status in RUNNING:
        wait(POLL_SECONDS)
        state = glue.get_data_quality_ruleset_evaluation_run(RunId=run)
        if state["Status"] != status:
            print(f"{database}.{table}: {state['Status']}", flush=True)
        status = state["Status"]
    if status != "SUCCEEDED":
        raise QualityError(
            f"{database}.{table}: the evaluation run {run} ended as {status}: {state.get('ErrorString', 'no reason given')}"
        )
    results = [glue.get_data_quality_result(ResultId=result) for result in state["ResultIds"]]
    return [rule for result in results for rule in result["RuleResults"]]


def failures(table: str, outcomes: Sequence[dict[str, Any]]) -> list[str]:
    """Print each rule's outcome; return a line for each that did not pass (a rule in error judged nothing)."""
    failed = []
    for rule in outcomes:
        line = f"{table}: {rule['Result']}: {rule.get('Description', rule['Name'])}"
        if message := rule.get("EvaluationMessage"):
            line += f" ({message})"
        print(line)
        if rule["Result"] != "PASS":
            failed.append(line)
    if not outcomes:
        failed.append(f"{table}: the run evaluated no rule")
    return failed


def main(
    argv: Sequence[str] | None = None,
    *,
    glue: Any = None,
    s3: Any = None,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Judge every raw table that has data, and only then fail, so that one run names every failed rule."""
    parser = argparse.ArgumentParser(prog="pipeline.quality", description=__doc__)
    parser.add_argument("--database", required=True, help="the Glue database")
    parser.add_argument("--tables", required=True, help="raw tables, separated by commas")
    parser.add_argument("--ruleset", required=True, help="the ruleset's name")
    parser.add_argument("--role", required=True, help="ARN of the role that the evaluation run reads with")
    # Glue adds arguments of its own.
    options, _ = parser.parse_known_args(argv)
    glue, s3 = glue or boto3.client("glue"), s3 or boto3.client("s3")
    failed = []
    for table in with_data(glue, s3, options.database, options.tables.split(",")):
        outcomes = evaluate(
            glue,
            database=options.database,
            table=table,
            ruleset=options.ruleset,
            role=options.role,
            wait=wait,
        )
        failed += failures(f"{options.database}.{table}", outcomes)
    if failed:
        raise QualityError(f"{len(failed)} rule(s) failed; nothing was curated:\n" + "\n".join(failed))


if __name__ == "__main__":
    try:
        main()
    except QualityError as error:
        sys.exit(str(error))
