"""Glue jobs and crawlers: the code they run, the places they are given, and nothing they could do besides."""

import functools
import re
import subprocess
import sys
from typing import Any

import pytest

from pipeline.rules import dqdl
from pipeline.schema import load as load_schema
from stacks.config import load
from tests.support import grants
from tests.support.intrinsics import Resolver
from tools.assembly import ROOT, Assembly, context

SCRIPTS = {"CurateJob": "spark/curate.py", "QualityGateJob": "quality.py"}
# Arguments that Glue itself reads ("Using job parameters in AWS Glue jobs").
GLUES_OWN = {
    "--enable-continuous-cloudwatch-log",
    "--enable-metrics",
    "--enable-observability-metrics",
    "--extra-py-files",
    "--job-language",
}


def _job(assembly: Assembly, name: str) -> dict[str, Any]:
    jobs = assembly.template("Processing").resources("AWS::Glue::Job")
    (found,) = [job for key, job in jobs.items() if key.startswith(name)]
    properties: dict[str, Any] = found["Properties"]
    return properties


def _arguments(assembly: Assembly, name: str) -> dict[str, str]:
    resolver = Resolver(assembly, assembly.template("Processing"))
    arguments = _job(assembly, name)["DefaultArguments"]
    return {key: resolver.strings(value)[0] for key, value in arguments.items()}


@functools.cache
def _usage(script: str) -> tuple[set[str], set[str]]:
    """The flags that a script demands, and all that it knows, from the usage it prints."""
    module = "pipeline." + script.removesuffix(".py").replace("/", ".")
    completed = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    usage = completed.stdout.split("\n\n", 1)[0]
    required = re.findall(r"--[a-z][a-z_-]*", re.sub(r"\[[^]]*]", "", usage))
    return set(required), set(re.findall(r"--[a-z][a-z_-]*", usage))


@pytest.mark.parametrize("job", SCRIPTS)
def test_a_job_runs_the_committed_script(each_assembly: Assembly, job: str) -> None:
    resolver = Resolver(each_assembly, each_assembly.template("Processing"))
    (location,) = resolver.strings(_job(each_assembly, job)["Command"]["ScriptLocation"])
    staged = each_assembly.path / f"asset.{location.rsplit('/', 1)[1]}"
    assert staged.read_bytes() == (ROOT / "pipeline" / SCRIPTS[job]).read_bytes()


@pytest.mark.parametrize("job", SCRIPTS)
def test_a_job_gets_every_flag_its_script_demands_and_none_it_does_not_know(
    each_assembly: Assembly, job: str
) -> None:
    given = set(_arguments(each_assembly, job)) - GLUES_OWN
    required, known = _usage(SCRIPTS[job])
    assert required <= given <= known


def test_curate_is_told_the_places_it_may_use(each_assembly: Assembly) -> None:
    arguments = _arguments(each_assembly, "CurateJob")
    raw = {arguments[flag].split("/", 3)[3] for flag in ("--batch", "--stream", "--reference")}
    curated = {arguments[flag].split("/", 3)[3] for flag in ("--curated", "--quarantine")}
    curated.add(arguments["--report"].split("/", 3)[3].removesuffix("/report.json"))
    role = ("Processing", "CurateRole")
    readable = grants.keys(each_assembly, *role, "s3:GetObject")
    assert {f"{place}/*" for place in raw | curated} <= readable
    assert grants.keys(each_assembly, *role, "s3:PutObject") == {
        key for place in curated for key in (place, f"{place}/*")
    }


def test_jobs_run_glue_5_1_and_stop_in_time(each_assembly: Assembly) -> None:
    settings = load(context(each_assembly.stage)).processing
    for name in SCRIPTS:
        job = _job(each_assembly, name)
        assert job["GlueVersion"] == "5.1"  # Spark 3.5.6, as the tests run
        assert job["Timeout"] == settings.job_timeout_minutes
        assert job["ExecutionProperty"] == {"MaxConcurrentRuns": 1}
    assert _job(each_assembly, "CurateJob")["NumberOfWorkers"] == settings.number_of_workers
    assert _job(each_assembly, "CurateJob")["MaxRetries"] == settings.job_max_retries


def test_a_failed_rule_is_not_retried(each_assembly: Assembly) -> None:
    assert _job(each_assembly, "QualityGateJob")["MaxRetries"] == 0


def test_the_ruleset_is_the_schemas_and_names_no_table(each_assembly: Assembly) -> None:
    config = load(context(each_assembly.stage))
    ruleset = each_assembly.template("Processing").only("AWS::Glue::DataQualityRuleset")["Properties"]
    percent = config.processing.maximum_quarantined_percent
    assert ruleset["Ruleset"] == dqdl(load_schema(config.dataset), percent)
    assert "TargetTable" not in ruleset  # the crawler makes the table later than this stack
    assert _arguments(each_assembly, "QualityGateJob")["--ruleset"] == ruleset["Name"]


def test_the_gate_judges_both_tables_of_rows_that_the_raw_crawler_makes(each_assembly: Assembly) -> None:
    arguments = _arguments(each_assembly, "QualityGateJob")
    crawlers = each_assembly.template("Processing").resources("AWS::Glue::Crawler")
    resolver = Resolver(each_assembly, each_assembly.template("Processing"))
    made = {
        crawler["Properties"]["TablePrefix"] + resolver.strings(target["Path"])[0].rstrip("/").rsplit("/")[-1]
        for crawler in crawlers.values()
        for target in crawler["Properties"]["Targets"]["S3Targets"]
    }
    assert made == {"raw_batch", "raw_stream", "raw_weather", "raw_planes", "curated_flights"}
    assert set(arguments["--tables"].split(",")) == {"raw_batch", "raw_stream"} < made


def test_the_gate_hands_glue_one_role_and_no_other_service(each_assembly: Assembly) -> None:
    passed = [
        statement
        for statement in grants.statements(each_assembly, "Processing", "QualityGateRole")
        if "iam:PassRole" in statement.actions
    ]
    (statement,) = passed
    assert statement.resources == (_arguments(each_assembly, "QualityGateJob")["--role"],)
    assert statement.condition == {"StringEquals": {"iam:PassedToService": "glue.amazonaws.com"}}


@pytest.mark.parametrize(
    "role", ["QualityGateRole", "QualityGateRunRole", "RawCrawlerRole", "CuratedCrawlerRole"]
)
def test_only_curate_may_write_or_delete_data(each_assembly: Assembly, role: str) -> None:
    actions = {
        action
        for statement in grants.statements(each_assembly, "Processing", role)
        for action in statement.actions
    }
    assert not actions & {"s3:PutObject", "s3:DeleteObject"}


def test_the_evaluation_reads_the_folders_of_the_tables_it_judges(each_assembly: Assembly) -> None:
    keys = grants.keys(each_assembly, "Processing", "QualityGateRunRole", "s3:GetObject")
    assert {"batch/*", "stream/*"} <= keys <= {"batch", "batch/*", "stream", "stream/*", "*"}
    tables = grants.resources(each_assembly, "Processing", "QualityGateRunRole", "glue:GetTable")
    judged = _arguments(each_assembly, "QualityGateJob")["--tables"].split(",")
    assert {name.rsplit("/", 1)[1] for name in tables if ":table/" in name} == set(judged)


def test_a_crawler_reads_its_own_folders_only(each_assembly: Assembly) -> None:
    raw = grants.keys(each_assembly, "Processing", "RawCrawlerRole", "s3:GetObject")
    folders = {"batch", "stream", "reference/weather", "reference/planes"}
    assert raw == {key for folder in folders for key in (folder, f"{folder}/*")}
    curated = grants.keys(each_assembly, "Processing", "CuratedCrawlerRole", "s3:GetObject")
    assert curated == {"flights", "flights/*"}


def test_a_crawler_changes_tables_of_its_own_prefix_only(each_assembly: Assembly) -> None:
    for role, prefix in (("RawCrawlerRole", "raw_"), ("CuratedCrawlerRole", "curated_")):
        tables = grants.resources(each_assembly, "Processing", role, "glue:UpdateTable")
        database = f"flights_{each_assembly.stage}"
        assert {name.split(":", 5)[5] for name in tables} == {
            "catalog",
            f"database/{database}",
            f"table/{database}/{prefix}*",
        }


def test_a_crawler_that_would_make_a_table_a_file_fails_instead(each_assembly: Assembly) -> None:
    for crawler in each_assembly.template("Processing").resources("AWS::Glue::Crawler").values():
        properties = crawler["Properties"]
        targets = properties["Targets"]["S3Targets"]
        assert f'"TableThreshold": {len(targets)}' in properties["Configuration"]
        assert properties["SchemaChangePolicy"]["DeleteBehavior"] == "LOG"


def test_everything_runs_inside_the_network_exactly_where_the_stage_isolates(each_assembly: Assembly) -> None:
    template = each_assembly.template("Processing")
    isolated = load(context(each_assembly.stage)).foundation.isolation
    for job in template.resources("AWS::Glue::Job").values():
        assert ("Connections" in job["Properties"]) is isolated
    for crawler in template.resources("AWS::Glue::Crawler").values():
        for target in crawler["Properties"]["Targets"]["S3Targets"]:
            assert ("ConnectionName" in target) is isolated
    assert len(template.resources("AWS::Glue::Connection")) == int(isolated)


def test_every_job_and_crawler_encrypts_its_logs_with_our_key(each_assembly: Assembly) -> None:
    template = each_assembly.template("Processing")
    resolver = Resolver(each_assembly, template)
    used = [
        *(
            job["Properties"]["SecurityConfiguration"]
            for job in template.resources("AWS::Glue::Job").values()
        ),
        *(
            crawler["Properties"]["CrawlerSecurityConfiguration"]
            for crawler in template.resources("AWS::Glue::Crawler").values()
        ),
    ]
    names = {resolver.strings(value)[0] for value in used}
    assert (len(used), names) == (4, {f"flights-{each_assembly.stage}"})


def test_nothing_starts_before_its_permissions_exist(each_assembly: Assembly) -> None:
    template = each_assembly.template("Processing")
    for kind in ("AWS::Glue::Job", "AWS::Glue::Crawler", "AWS::Events::Rule"):
        for name, resource in template.resources(kind).items():
            assert any("RoleDefaultPolicy" in dependency for dependency in resource["DependsOn"]), name
