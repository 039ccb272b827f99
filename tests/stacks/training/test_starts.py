"""What starts the pipeline: nothing, unless the configuration says so; and what could not start is kept."""

from pathlib import Path

import pytest

from tests.support import grants, inprocess
from tests.support.intrinsics import Resolver
from tools.assembly import Assembly


def test_nothing_starts_by_itself(each_assembly: Assembly) -> None:
    template = each_assembly.template("Training")
    assert template.only("AWS::Events::Rule")["Properties"]["State"] == "DISABLED"
    assert template.only("AWS::Scheduler::Schedule")["Properties"]["State"] == "DISABLED"


@pytest.mark.parametrize(
    ("knob", "kind"),
    [
        ("start_on_curated", "AWS::Events::Rule"),
        pytest.param("schedule_enabled", "AWS::Scheduler::Schedule", marks=pytest.mark.deep),
    ],
)
def test_each_start_has_its_own_switch(knob: str, kind: str, tmp_path: Path) -> None:
    template = inprocess.training(tmp_path, **{knob: True})
    states = {
        name: template.only(name)["Properties"]["State"]
        for name in ("AWS::Events::Rule", "AWS::Scheduler::Schedule")
    }
    assert states.pop(kind) == "ENABLED"
    assert set(states.values()) == {"DISABLED"}


def test_the_success_of_the_curated_crawler_is_what_the_rule_hears(each_assembly: Assembly) -> None:
    template = each_assembly.template("Training")
    pattern = template.only("AWS::Events::Rule")["Properties"]["EventPattern"]
    assert pattern["source"] == ["aws.glue"]
    assert pattern["detail-type"] == ["Glue Crawler State Change"]
    assert pattern["detail"]["state"] == ["Succeeded"]  # as the event spells it; SUCCEEDED never matches
    (crawler,) = Resolver(each_assembly, template).strings(pattern["detail"]["crawlerName"])
    assert crawler.startswith("curatedcrawler")


def test_both_starts_mean_this_pipeline_and_may_start_no_other(each_assembly: Assembly) -> None:
    template = each_assembly.template("Training")
    resolver = Resolver(each_assembly, template)
    (target,) = template.only("AWS::Events::Rule")["Properties"]["Targets"]
    schedule = template.only("AWS::Scheduler::Schedule")["Properties"]["Target"]
    name = template.only("AWS::SageMaker::Pipeline")["Properties"]["PipelineName"]
    for start, role in ((target, "StartsRuleRole"), (schedule, "StartsScheduleRole")):
        (arn,) = resolver.strings(start["Arn"])
        assert arn.endswith(f":pipeline/{name}")
        assert grants.resources(each_assembly, "Training", role, "sagemaker:StartPipelineExecution") == {arn}


def test_a_start_that_failed_is_kept_for_two_weeks(each_assembly: Assembly) -> None:
    template = each_assembly.template("Training")
    (queue,) = template.resources("AWS::SQS::Queue")
    assert template.only("AWS::SQS::Queue")["Properties"]["MessageRetentionPeriod"] == 14 * 24 * 3600
    (target,) = template.only("AWS::Events::Rule")["Properties"]["Targets"]
    schedule = template.only("AWS::Scheduler::Schedule")["Properties"]["Target"]
    for start in (target, schedule):
        assert start["DeadLetterConfig"]["Arn"] == {"Fn::GetAtt": [queue, "Arn"]}
    assert grants.resources(each_assembly, "Training", "StartsScheduleRole", "sqs:SendMessage")
