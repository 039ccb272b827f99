"""Data quality: rulesets, and runs that judge the real rows of a table as the role they were given.

Sources: "DataQualityRulesetEvaluationRun", "DataQualityResult" (API Reference), "Setting up alerts, deployments, and
scheduling" (AWS Glue Data Quality: events and metrics).
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Mapping
from typing import Any

from local.cloud import events, roles
from local.cloud.glue import work
from local.cloud.glue.work import Work
from local.cloud.place import ACCOUNT
from local.cloud.protocol import ApiError, arn

Record = dict[str, Any]

TIMEOUT_MINUTES = 2880  # the API's default
# By name, as GetDataQualityRuleset describes them.
rulesets: dict[str, Record] = {}


@dataclasses.dataclass
class Quality:
    """Evaluation runs and their results, by id, in the API's own shapes."""

    work: Work
    runs: dict[str, Record] = dataclasses.field(default_factory=dict)
    results: dict[str, Record] = dataclasses.field(default_factory=dict)

    def start(self, request: Mapping[str, Any]) -> str:
        """Begin a run; its id."""
        names = request["RulesetNames"]
        if len(names) != 1 or "GlueTable" not in request["DataSource"]:
            raise ApiError(
                "InvalidInputException",
                "One ruleset on one Glue table is what a run judges in the embedded cloud.",
            )
        ruleset(names[0])
        run: Record = {
            "RunId": f"dqrun-{secrets.token_hex(20)}",
            "DataSource": request["DataSource"],
            "Role": request["Role"],
            "RulesetNames": names,
            "Timeout": request.get("Timeout", TIMEOUT_MINUTES),
            "Status": "STARTING",
            "StartedOn": time.time(),
            "LastModifiedOn": time.time(),
        }
        self.runs[run["RunId"]] = run
        self.work.start("data quality run", self._run, run)
        return str(run["RunId"])

    def run(self, run_id: str) -> Record:
        """One run."""
        if run_id not in self.runs:
            raise ApiError("EntityNotFoundException", f"Data quality run {run_id} is not found")
        return self.runs[run_id]

    def result(self, result_id: str) -> Record:
        """One result."""
        if result_id not in self.results:
            raise ApiError("EntityNotFoundException", f"Data quality result {result_id} is not found")
        return self.results[result_id]

    def _run(self, run: Record) -> None:
        run["Status"] = "RUNNING"
        end: Record
        try:
            result = self._judged(run)
            end = {"Status": "SUCCEEDED", "ResultIds": [result["ResultId"]]}
        except work.StoppedError:
            end = {"Status": "STOPPED"}
        except Exception as error:  # noqa: BLE001 - whatever happens, a run ends and says why
            end = {"Status": "FAILED", "ErrorString": str(error)}
        now = time.time()
        status = end.pop("Status")
        elapsed = round(now - run["StartedOn"])
        run |= {"CompletedOn": now, "LastModifiedOn": now, "ExecutionTime": elapsed, **end}
        run["Status"] = status

    def _judged(self, run: Record) -> Record:
        session = roles.assume(work.role_arn(run["Role"]), "glue", "GlueDataQuality")
        of, name = run["DataSource"]["GlueTable"], run["RulesetNames"][0]
        here = ruleset_arn(name)
        session.authorize("glue:GetDataQualityRuleset", here)
        glue = session.client("glue", self.work.cloud.place)
        glue.get_database(Name=of["DatabaseName"])
        table = glue.get_table(DatabaseName=of["DatabaseName"], Name=of["TableName"])["Table"]
        glue.get_partitions(DatabaseName=of["DatabaseName"], TableName=of["TableName"])
        question = {"ruleset": ruleset(name)["Ruleset"], "table": table}
        outcomes = self.work.ask("judge", question, session, seconds=60 * run["Timeout"])
        session.authorize("glue:PublishDataQuality", here)
        passed = sum(outcome["Result"] == "PASS" for outcome in outcomes)
        result: Record = {
            "ResultId": f"dqresult-{secrets.token_hex(20)}",
            "Score": passed / len(outcomes) if outcomes else 0.0,
            "DataSource": run["DataSource"],
            "RulesetName": name,
            "StartedOn": run["StartedOn"],
            "CompletedOn": time.time(),
            "RulesetEvaluationRunId": run["RunId"],
            "RuleResults": outcomes,
        }
        self.results[result["ResultId"]] = result
        _publish(
            session.client("cloudwatch", self.work.cloud.place), name, of, passed, len(outcomes) - passed
        )
        _tell(result, passed)
        return result


def ruleset(name: str) -> Record:
    """One ruleset."""
    return work.known(rulesets, name, f"Data quality ruleset {name} is not found")


def ruleset_arn(name: str) -> str:
    """What IAM calls a ruleset, and also its runs and results."""
    return arn("glue", f"dataQualityRuleset/{name}")


def _publish(cloudwatch: Any, ruleset: str, table: Mapping[str, str], passed: int, failed: int) -> None:
    dimensions = [
        {"Name": "CatalogId", "Value": ACCOUNT},
        {"Name": "Database", "Value": table["DatabaseName"]},
        {"Name": "Table", "Value": table["TableName"]},
        {"Name": "Ruleset", "Value": ruleset},
    ]
    cloudwatch.put_metric_data(
        Namespace="Glue Data Quality",
        MetricData=[
            {"MetricName": f"glue.data.quality.rules.{name}", "Dimensions": dimensions, "Value": value}
            for name, value in (("passed", passed), ("failed", failed))
        ],
    )


def _tell(result: Record, passed: int) -> None:
    table, outcomes = result["DataSource"]["GlueTable"], result["RuleResults"]
    detail = {
        "resultId": result["ResultId"],
        "rulesetNames": [result["RulesetName"]],
        "state": "SUCCEEDED" if passed == len(outcomes) else "FAILED",
        "score": result["Score"],
        "numRulesSucceeded": passed,
        "numRulesFailed": len(outcomes) - passed,
        "numRulesSkipped": 0,
        "context": {
            "contextType": "GLUE_DATA_CATALOG",
            "runId": result["RulesetEvaluationRunId"],
            "databaseName": table["DatabaseName"],
            "tableName": table["TableName"],
            "catalogId": ACCOUNT,
        },
    }
    events.emit("aws.glue-dataquality", "Data Quality Evaluation Results Available", detail)
