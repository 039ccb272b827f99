"""The order of the Glue workflow, what starts it, and that a failure stops it."""

from collections.abc import Callable
from typing import Any

from stacks.config import load
from tests.support.intrinsics import Resolver
from tools.assembly import Assembly, Template, context

Node = tuple[str, str]


def _node(action: dict[str, Any]) -> Node:
    """A job or a crawler that a trigger starts or watches, as kind and logical id."""
    kind = "JobName" if "JobName" in action else "CrawlerName"
    return kind, action[kind]["Ref"]


def _conditional(template: Template) -> dict[Node, Node]:
    """What each success starts."""
    chain = {}
    for trigger in template.resources("AWS::Glue::Trigger").values():
        properties = trigger["Properties"]
        if properties["Type"] == "CONDITIONAL":
            (condition,) = properties["Predicate"]["Conditions"]
            (action,) = properties["Actions"]
            assert condition["LogicalOperator"] == "EQUALS"  # Glue refuses a condition without one
            assert condition.get("State", condition.get("CrawlState")) == "SUCCEEDED"
            assert properties["StartOnCreation"] is True  # or it would sleep for ever
            chain[_node(condition)] = _node(action)
    return chain


def _starting(template: Template) -> list[dict[str, Any]]:
    triggers = [resource["Properties"] for resource in template.resources("AWS::Glue::Trigger").values()]
    return [trigger for trigger in triggers if trigger["Type"] != "CONDITIONAL"]


def test_each_step_starts_when_the_one_before_has_succeeded(each_assembly: Assembly) -> None:
    template = each_assembly.template("Processing")
    (start,) = _starting(template)
    chain = _conditional(template)
    step: Node | None = _node(start["Actions"][0])
    steps = []
    while step:
        steps.append(step)
        step = chain.pop(step, None)
    assert [(kind, name.rstrip("0123456789ABCDEF")) for kind, name in steps] == [
        ("CrawlerName", "RawCrawler"),
        ("JobName", "QualityGateJob"),
        ("JobName", "CurateJob"),
        ("CrawlerName", "CuratedCrawler"),
    ]
    assert chain == {}


def test_every_trigger_belongs_to_the_one_workflow(each_assembly: Assembly) -> None:
    template = each_assembly.template("Processing")
    (workflow,) = template.resources("AWS::Glue::Workflow")
    for trigger in template.resources("AWS::Glue::Trigger").values():
        assert trigger["Properties"]["WorkflowName"] == {"Ref": workflow}


def test_a_workflow_never_runs_twice_at_once(each_assembly: Assembly) -> None:
    workflow = each_assembly.template("Processing").only("AWS::Glue::Workflow")
    assert workflow["Properties"]["MaxConcurrentRuns"] == 1


def test_uploads_start_the_workflow_only_where_the_stage_says_so(each_assembly: Assembly) -> None:
    template = each_assembly.template("Processing")
    settings = load(context(each_assembly.stage)).processing
    (start,) = _starting(template)
    rule = template.only("AWS::Events::Rule")["Properties"]
    if settings.start_on_upload:
        assert (start["Type"], rule["State"]) == ("EVENT", "ENABLED")
        assert start["EventBatchingCondition"] == {
            "BatchSize": settings.upload_batch_size,
            "BatchWindow": settings.upload_batch_window_seconds,
        }
    else:
        assert (start["Type"], rule["State"]) == ("ON_DEMAND", "DISABLED")
        assert "StartOnCreation" not in start  # Glue would start the workflow at deploy


def test_the_rule_hears_uploads_and_tells_this_workflow(each_assembly: Assembly) -> None:
    template = each_assembly.template("Processing")
    resolver = Resolver(each_assembly, template)
    rule = template.only("AWS::Events::Rule")["Properties"]
    pattern = rule["EventPattern"]
    assert pattern["detail-type"] == ["Object Created"]
    assert pattern["detail"]["object"]["key"] == [{"prefix": "batch/"}]
    (bucket,) = resolver.strings(pattern["detail"]["bucket"]["name"])
    (workflow,) = template.resources("AWS::Glue::Workflow")
    assert bucket.startswith("raw")
    (target,) = rule["Targets"]
    assert resolver.strings(target["Arn"])[0].endswith(f":workflow/{workflow.lower()}")


def test_an_event_that_cannot_start_the_workflow_is_kept(each_assembly: Assembly) -> None:
    template = each_assembly.template("Processing")
    (queue,) = template.resources("AWS::SQS::Queue")
    (target,) = template.only("AWS::Events::Rule")["Properties"]["Targets"]
    assert target["DeadLetterConfig"]["Arn"] == {"Fn::GetAtt": [queue, "Arn"]}
    policy = template.only("AWS::SQS::QueuePolicy")["Properties"]["PolicyDocument"]["Statement"]
    (rule,) = template.resources("AWS::Events::Rule")
    admitted = [statement for statement in policy if statement["Effect"] == "Allow"]
    assert [statement["Condition"] for statement in admitted] == [
        {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": [rule, "Arn"]}}}
    ]


def test_another_start_is_another_workflow(assembly: Callable[[str], Assembly]) -> None:
    """Two starting triggers in one workflow are refused, and CloudFormation creates before it deletes."""
    by_hand, by_upload = (assembly(stage).template("Processing") for stage in ("sandbox", "production"))
    assert _starting(by_hand)[0]["Type"] != _starting(by_upload)[0]["Type"]
    for kind in ("AWS::Glue::Workflow", "AWS::Glue::Trigger"):
        assert set(by_hand.resources(kind)) & set(by_upload.resources(kind)) == set()
