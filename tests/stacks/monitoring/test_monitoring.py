"""Topic, alarms, dashboard and budget: who is told, of what, from which metrics."""

import ast
import json
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk.assertions import Template

from stacks.config import MonitoringConfig, load
from stacks.monitoring.topic import AlertTopic
from tests.support import iam
from tests.support.intrinsics import Resolver
from tools.assembly import ROOT, Assembly, context


def _alarms(assembly: Assembly) -> dict[str, dict[str, Any]]:
    found = assembly.template("Monitoring").resources("AWS::CloudWatch::Alarm")
    return {name: alarm["Properties"] for name, alarm in found.items()}


def _alarm(assembly: Assembly, id: str) -> dict[str, Any]:
    (found,) = [alarm for name, alarm in _alarms(assembly).items() if name.startswith(f"Alarms{id}")]
    return found


def _widgets(assembly: Assembly) -> list[dict[str, Any]]:
    template = assembly.template("Monitoring")
    body = template.only("AWS::CloudWatch::Dashboard")["Properties"]["DashboardBody"]
    (text,) = Resolver(assembly, template).strings(body)
    widgets: list[dict[str, Any]] = json.loads(text)["widgets"]
    return widgets


def test_three_publishers_of_this_account_may_publish(each_assembly: Assembly) -> None:
    publishers = [
        statement
        for statement in iam.statements(each_assembly, each_assembly.template("Monitoring"))
        if statement.allow and "sns:Publish" in statement.actions
    ]
    assert {principal for found in publishers for principal in found.principals} == {
        "budgets.amazonaws.com",
        "cloudwatch.amazonaws.com",
        "events.amazonaws.com",
    }
    for found in publishers:
        if "events.amazonaws.com" not in found.principals:
            assert "aws:SourceAccount" in found.condition["StringEquals"]


def test_the_topics_name_is_one_that_the_key_admits(each_assembly: Assembly) -> None:
    """CloudFormation names the topic after its stack, and the key policy knows that beginning."""
    config = load(context(each_assembly.stage))
    assert "TopicName" not in each_assembly.template("Monitoring").only("AWS::SNS::Topic")["Properties"]
    assert config.stack_name("Monitoring").startswith(f"{config.prefix}-")


def test_without_an_address_nobody_is_subscribed(each_assembly: Assembly) -> None:
    assert load(context(each_assembly.stage)).monitoring.alarm_email is None
    assert each_assembly.template("Monitoring").resources("AWS::SNS::Subscription") == {}


def test_a_configured_address_is_subscribed() -> None:
    stack = cdk.Stack(cdk.App(), "Stack")
    settings = MonitoringConfig(alarm_email="team@example.com", monthly_budget_usd=1, budget_alert_percent=1)
    AlertTopic(stack, "Topic", settings=settings, key=kms.Key(stack, "Key"))
    Template.from_stack(stack).has_resource_properties(
        "AWS::SNS::Subscription", {"Protocol": "email", "Endpoint": "team@example.com"}
    )


def test_every_alarm_tells_the_topic_a_sentence(each_assembly: Assembly) -> None:
    (topic,) = each_assembly.template("Monitoring").resources("AWS::SNS::Topic")
    for alarm in _alarms(each_assembly).values():
        assert alarm["AlarmActions"] == [{"Ref": topic}]
        assert alarm["AlarmDescription"].endswith(".")


def test_an_idle_system_raises_no_alarm(each_assembly: Assembly) -> None:
    assert {alarm["TreatMissingData"] for alarm in _alarms(each_assembly).values()} == {"notBreaching"}


def test_the_consumer_is_late_before_it_gives_records_up(each_assembly: Assembly) -> None:
    mapping = each_assembly.template("Ingestion").only("AWS::Lambda::EventSourceMapping")["Properties"]
    threshold_seconds = _alarm(each_assembly, "ConsumerLate")["Threshold"] / 1000
    assert 0 < threshold_seconds < mapping["MaximumRecordAgeInSeconds"]


def test_the_archive_is_not_late_while_firehose_buffers(each_assembly: Assembly) -> None:
    delivery = each_assembly.template("Ingestion").only("AWS::KinesisFirehose::DeliveryStream")["Properties"]
    buffer = delivery["ExtendedS3DestinationConfiguration"]["BufferingHints"]["IntervalInSeconds"]
    assert _alarm(each_assembly, "ArchiveLate")["Threshold"] > buffer


def test_the_stream_may_not_refuse_more_than_the_quality_gate(each_assembly: Assembly) -> None:
    limit = load(context(each_assembly.stage)).processing.maximum_quarantined_percent
    assert _alarm(each_assembly, "RecordsRefused")["Threshold"] == limit


def test_what_a_rule_cannot_deliver_is_kept(each_assembly: Assembly) -> None:
    without = [
        name
        for template in each_assembly.templates.values()
        for name, rule in template.resources("AWS::Events::Rule").items()
        for target in rule["Properties"]["Targets"]
        if "DeadLetterConfig" not in target
    ]
    assert without == []


def test_every_dead_letter_queue_is_watched(each_assembly: Assembly) -> None:
    resolver = Resolver(each_assembly, each_assembly.template("Monitoring"))
    watched = {
        resolver.strings(dimension["Value"])[0]
        for alarm in _alarms(each_assembly).values()
        for dimension in alarm.get("Dimensions", [])
        if dimension["Name"] == "QueueName"
    }
    assert watched == set(_dead_letter_queues(each_assembly))


def _dead_letter_queues(assembly: Assembly) -> list[str]:
    """Queues that something names as the place for what failed."""
    found = []
    for template in assembly.templates.values():
        resolver = Resolver(assembly, template)
        arns = [
            target["DeadLetterConfig"]["Arn"]
            for rule in template.resources("AWS::Events::Rule").values()
            for target in rule["Properties"]["Targets"]
            if "DeadLetterConfig" in target
        ]
        arns += [
            schedule["Properties"]["Target"]["DeadLetterConfig"]["Arn"]
            for schedule in template.resources("AWS::Scheduler::Schedule").values()
            if "DeadLetterConfig" in schedule["Properties"]["Target"]
        ]
        arns += [
            queue["Properties"]["RedrivePolicy"]["deadLetterTargetArn"]
            for queue in template.resources("AWS::SQS::Queue").values()
            if "RedrivePolicy" in queue["Properties"]
        ]
        found += [resolver.strings(arn)[0].rsplit(":", 1)[1] for arn in arns]
    assert found
    return found


def _custom_metrics(assembly: Assembly) -> set[tuple[str, str]]:
    """Service and name of every metric that alarms and dashboard expect from our own functions."""
    namespace = load(context(assembly.stage)).prefix
    found = set()
    for alarm in _alarms(assembly).values():
        for entry in alarm.get("Metrics", []):
            metric = entry.get("MetricStat", {}).get("Metric", {})
            if metric.get("Namespace") == namespace:
                found.add((metric["Dimensions"][0]["Value"], metric["MetricName"]))
    for widget in _widgets(assembly):
        for line in widget["properties"].get("metrics", []):
            if line[0] == namespace:
                found.add((line[3], line[1]))
    return found


def test_functions_report_the_metrics_that_are_looked_at(each_assembly: Assembly) -> None:
    expected = _custom_metrics(each_assembly)
    assert len(expected) > 4
    for service, metric in expected:
        source = ast.parse((ROOT / "lambdas" / f"{service.replace('-', '_')}.py").read_text())
        constants = {node.value for node in ast.walk(source) if isinstance(node, ast.Constant)}
        assert metric in constants, f"lambdas/{service}: reports no {metric}"


def test_functions_report_under_the_namespace_that_is_looked_at(each_assembly: Assembly) -> None:
    namespace = load(context(each_assembly.stage)).prefix
    services = {service for service, _ in _custom_metrics(each_assembly)}
    reporting = {
        found["Properties"]["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]
        for template in each_assembly.templates.values()
        for found in template.resources("AWS::Lambda::Function").values()
        if found["Properties"]["Environment"]["Variables"]["POWERTOOLS_METRICS_NAMESPACE"] == namespace
    }
    assert services <= reporting


def test_the_dashboard_tells_the_flow_from_left_to_right(each_assembly: Assembly) -> None:
    headings = {
        widget["properties"]["markdown"].splitlines()[0].removeprefix("# "): widget["x"]
        for widget in _widgets(each_assembly)
        if widget["type"] == "text"
    }
    assert sorted(headings, key=headings.__getitem__) == ["Ingestion", "Processing", "Training", "Serving"]
    assert len(set(headings.values())) == 4


def test_no_widget_lies_on_another(each_assembly: Assembly) -> None:
    taken: set[tuple[int, int]] = set()
    for widget in _widgets(each_assembly):
        cells = {
            (widget["x"] + column, widget["y"] + row)
            for column in range(widget["width"])
            for row in range(widget["height"])
        }
        assert not cells & taken
        taken |= cells


def test_the_budget_warns_before_the_limit_and_when_the_forecast_exceeds_it(each_assembly: Assembly) -> None:
    settings = load(context(each_assembly.stage)).monitoring
    budget = each_assembly.template("Monitoring").only("AWS::Budgets::Budget")["Properties"]
    assert budget["Budget"]["BudgetLimit"] == {"Amount": settings.monthly_budget_usd, "Unit": "USD"}
    warnings = {
        entry["Notification"]["NotificationType"]: entry["Notification"]["Threshold"]
        for entry in budget["NotificationsWithSubscribers"]
    }
    assert warnings == {"ACTUAL": settings.budget_alert_percent, "FORECASTED": 100}


def test_the_budget_counts_this_deployment_and_no_other_stage(each_assembly: Assembly) -> None:
    budget = each_assembly.template("Monitoring").only("AWS::Budgets::Budget")["Properties"]["Budget"]
    assert budget["CostFilters"] == {"TagKeyValue": [f"user:deployment$flights-{each_assembly.stage}"]}
