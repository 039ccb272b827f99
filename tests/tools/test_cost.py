"""The bill is read from the templates: what exists, under which condition, times a price that somebody wrote down."""

import copy
import json
import os
import subprocess
import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tools import cost
from tools.assembly import ROOT, Assembly, SynthError, Template

PRICES = cost.load_prices()


def assembly_of(resources: dict[str, Any], **sections: Any) -> Assembly:
    """An assembly with one stack, `Stack`, that was never written to a disk."""
    made = Assembly("test", Path())
    made.__dict__["templates"] = {"Stack": Template("Stack", {"Resources": resources, **sections})}
    return made


def a_day(resources: dict[str, Any], *, with_model: bool = False, **sections: Any) -> float:
    return cost.bill(assembly_of(resources, **sections), PRICES).a_day(with_model=with_model)


def resource(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": kind, "Properties": properties}


HAS_MODEL: dict[str, Any] = {
    "Parameters": {"ModelPackageArn": {"Type": "String", "Default": ""}},
    "Conditions": {"HasModel": {"Fn::Not": [{"Fn::Equals": [{"Ref": "ModelPackageArn"}, ""]}]}},
    "Mappings": {"Fleet": {"sandbox": {"InstanceType": "ml.m5.large", "InstanceCount": 3}}},
}
FLEET = {
    "Config": resource(
        "AWS::SageMaker::EndpointConfig",
        ProductionVariants=[
            {
                "InstanceType": {"Fn::FindInMap": ["Fleet", "sandbox", "InstanceType"]},
                "InitialInstanceCount": {"Fn::FindInMap": ["Fleet", "sandbox", "InstanceCount"]},
            }
        ],
    ),
    "Endpoint": {
        **resource(
            "AWS::SageMaker::Endpoint", EndpointConfigName={"Fn::GetAtt": ["Config", "EndpointConfigName"]}
        ),
        "Condition": "HasModel",
    },
}


def test_sandbox_stays_below_a_dollar_a_day_before_an_approval(assembly: Callable[[str], Assembly]) -> None:
    sandbox = cost.bill(assembly("sandbox"), PRICES)
    assert 0.3 < sandbox.a_day(with_model=False) < 1


@pytest.mark.parametrize(("memory", "usd"), [(256, 0.0333), (512, 0.0667)])
def test_a_function_costs_by_its_own_memory(memory: int, usd: float) -> None:
    function = resource("AWS::Lambda::Function", MemorySize=memory)
    use = cost.bill(assembly_of({"Function": function}), PRICES).usage[-1]
    assert use.assumed == f"10,000 of 1 s at {memory} MB"
    assert use.usd == pytest.approx(usd, rel=0.01)


def test_every_resource_of_both_stages_has_a_price_or_is_known_to_have_none(every_assembly: Assembly) -> None:
    assert cost.bill(every_assembly, PRICES).stacks == tuple(every_assembly.templates)


def test_an_option_costs_next_to_nothing_before_a_model_and_only_the_experiment_waits_with_one(
    each_complete: Assembly,
) -> None:
    made = cost.bill(each_complete, PRICES)
    options = {"Serverless", "Asynchronous", "Batch", "Experiment"} & each_complete.templates.keys()
    assert all(made.a_day(option, with_model=False) < 0.01 for option in options)
    waiting = {line.stack for line in made.lines if line.what.startswith("ml.")}
    assert waiting == {"Serving", "Experiment"}
    assert made.a_day("Asynchronous", with_model=True) < 0.02, "scaled to zero"


def test_what_an_option_is_used_for_is_priced_by_its_own_sizes(complete: Callable[[str], Assembly]) -> None:
    used = {use.what: use for use in cost.bill(complete("sandbox"), PRICES).usage}
    asynchronous = used["instance of the asynchronous endpoint"]
    assert (asynchronous.assumed, asynchronous.usd) == ("60 minutes of ml.m5.large", 0.115)
    serverless = used["requests to the serverless endpoint"]
    assert serverless.assumed == "10,000 of 0.1 s at 2048 MB"
    assert serverless.usd == pytest.approx(2 * 1_000 * 0.00002)
    batch = used["run of a transform job"]
    assert batch.assumed == "10 minutes of 1 x ml.m5.large"
    assert batch.usd == pytest.approx(0.115 / 6)


@pytest.mark.parametrize(("least", "usd"), [(0, 0), (2, 2 * 24 * 0.115)])
def test_an_asynchronous_fleet_is_paid_for_down_to_its_minimum(least: int, usd: float) -> None:
    resources = copy.deepcopy(FLEET)
    config = resources["Config"]["Properties"]
    config["AsyncInferenceConfig"] = {}
    config["ProductionVariants"] = [{"InstanceType": "ml.m5.large", "InitialInstanceCount": max(1, least)}]
    resources["Target"] = resource(
        "AWS::ApplicationAutoScaling::ScalableTarget", MinCapacity=least, MaxCapacity=4
    )
    assert a_day(resources, with_model=True, **HAS_MODEL) == pytest.approx(usd)


def test_a_warm_serverless_copy_is_paid_for_while_it_waits() -> None:
    resources = copy.deepcopy(FLEET)
    resources["Config"]["Properties"]["ProductionVariants"] = [
        {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5, "ProvisionedConcurrency": 3}}
    ]
    with pytest.raises(cost.CostError, match="no price for GB of a serverless copy kept warm"):
        a_day(resources, **HAS_MODEL)
    resources["Config"]["Properties"]["ProductionVariants"][0]["ServerlessConfig"].pop(
        "ProvisionedConcurrency"
    )
    assert a_day(resources, with_model=True, **HAS_MODEL) == 0


def test_a_shadow_is_paid_for_as_its_production_variant_is() -> None:
    resources = copy.deepcopy(FLEET)
    properties = resources["Config"]["Properties"]
    properties["ShadowProductionVariants"] = properties["ProductionVariants"]
    once = a_day(FLEET, with_model=True, **HAS_MODEL)
    assert a_day(resources, with_model=True, **HAS_MODEL) == pytest.approx(2 * once)


def test_the_fleet_is_counted_only_with_a_model(each_assembly: Assembly) -> None:
    serving = cost.bill(each_assembly, PRICES)
    fleet = [line for line in serving.lines if line.what.startswith("ml.")]
    assert [line.needs_model for line in fleet] == [True]
    with_model = serving.a_day("Serving", with_model=True) - serving.a_day("Serving", with_model=False)
    assert with_model >= fleet[0].usd_a_day > 5


def test_an_endpoint_costs_what_its_mapping_says() -> None:
    assert a_day(FLEET, **HAS_MODEL) == 0
    assert a_day(FLEET, with_model=True, **HAS_MODEL) == pytest.approx(3 * 0.115 * 24)


def test_an_instance_without_a_price_is_an_error_that_says_what_to_write_and_where() -> None:
    sections = copy.deepcopy(HAS_MODEL)
    sections["Mappings"]["Fleet"]["sandbox"]["InstanceType"] = "ml.p9.48xlarge"
    with pytest.raises(cost.CostError) as raised:
        a_day(FLEET, **sections)
    problem, remedy, line = str(raised.value).split("\n")
    assert problem == "Stack/Endpoint: tools/prices.toml has no price for ml.p9.48xlarge."
    assert "under [price]" in remedy
    assert "https://aws.amazon.com/sagemaker/ai/pricing/" in remedy
    assert "us-east-1" in remedy
    written = tomllib.loads(f"[price]\n{line.replace('...', '9.9')}")
    prices = cost.Prices({**PRICES.table, "price": {**PRICES.table["price"], **written["price"]}})
    made = cost.bill(assembly_of(FLEET, **sections), prices)
    assert made.a_day(with_model=True) == pytest.approx(3 * 9.9 * 24)
    assert written["price"]["ml.p9.48xlarge"].keys() == PRICES.table["price"]["ml.m5.large"].keys()


def test_an_unknown_type_is_an_error() -> None:
    with pytest.raises(cost.CostError, match=r"Stack/Nat: nobody has said what AWS::EC2::NatGateway costs"):
        a_day({"Nat": resource("AWS::EC2::NatGateway")})


QUEUE = {"Queue": resource("AWS::SQS::Queue")}


@pytest.mark.parametrize(
    ("resources", "monthly"),
    [
        ({"Key": resource("AWS::KMS::Key")}, 1.0),
        ({"Board": resource("AWS::CloudWatch::Dashboard")}, 3.0),
        ({"Alarm": resource("AWS::CloudWatch::Alarm", MetricName="x")}, 0.1),
        (
            {
                "Alarm": resource(
                    "AWS::CloudWatch::Alarm", Metrics=[{"MetricStat": {}}, {"MetricStat": {}}, {"Id": "e"}]
                )
            },
            0.2,
        ),
        (
            {
                "Tracking": resource(
                    "AWS::ApplicationAutoScaling::ScalingPolicy", PolicyType="TargetTrackingScaling"
                )
            },
            0.2,
        ),
        ({"Step": resource("AWS::ApplicationAutoScaling::ScalingPolicy", PolicyType="StepScaling")}, 0),
        ({"Role": resource("AWS::IAM::Role")}, 0),
        ({"Bucket": resource("AWS::S3::Bucket")}, 0),
        ({"Gateway": resource("AWS::EC2::VPCEndpoint", VpcEndpointType="Gateway")}, 0),
        (
            {
                "Endpoint": resource(
                    "AWS::EC2::VPCEndpoint", VpcEndpointType="Interface", SubnetIds=["a", "b"]
                )
            },
            2 * 0.01 * 730,
        ),
        (
            QUEUE
            | {
                "Poll": resource(
                    "AWS::Lambda::EventSourceMapping", EventSourceArn={"Fn::GetAtt": ["Queue", "Arn"]}
                )
            },
            0.26,
        ),
        (
            {
                "Poll": resource(
                    "AWS::Lambda::EventSourceMapping", EventSourceArn={"Fn::ImportValue": "stream"}
                )
            },
            0,
        ),
    ],
    ids=lambda value: next(reversed(value)) if isinstance(value, dict) else None,
)
def test_what_exists_is_paid_for(resources: dict[str, Any], monthly: float) -> None:
    assert a_day(resources) * 730 / 24 == pytest.approx(monthly)


@pytest.mark.parametrize(
    ("mode", "shards", "hours", "hourly"),
    [("PROVISIONED", 2, 24, 0.03), ("PROVISIONED", 2, 168, 0.07), ("ON_DEMAND", 2, 24, 0.04)],
)
def test_a_stream_is_paid_for_by_mode_shards_and_retention(
    mode: str, shards: int, hours: int, hourly: float
) -> None:
    stream = resource(
        "AWS::Kinesis::Stream",
        StreamModeDetails={"StreamMode": mode},
        ShardCount=shards,
        RetentionPeriodHours=hours,
    )
    assert a_day({"Stream": stream}) == pytest.approx(24 * hourly)


@pytest.mark.parametrize(("each", "usd", "what"), [(True, 6, "used (3)"), (False, 2, "used")])
def test_what_is_paid_for_by_use_is_counted_each_or_once(each: bool, usd: float, what: str) -> None:  # noqa: FBT001
    entry = {"type": "AWS::SQS::Queue", "what": "used", "assumed": "some", "usd": 2, "each": each}
    prices = cost.Prices({**PRICES.table, "usage": [entry]})
    queues = {name: resource("AWS::SQS::Queue") for name in "ABC"}
    (use,) = cost.bill(assembly_of(queues), prices).usage
    assert (use.usd, use.what) == (usd, what)


def test_runs_are_priced_from_the_template_and_kept_out_of_the_totals() -> None:
    job = resource("AWS::Glue::Job", Command={"Name": "glueetl"}, WorkerType="G.2X", NumberOfWorkers=3)
    shell = resource("AWS::Glue::Job", Command={"Name": "pythonshell"}, MaxCapacity=0.0625)
    made = cost.bill(
        assembly_of({"Job": job, "Shell": shell, "Crawler": resource("AWS::Glue::Crawler")}), PRICES
    )
    assert made.a_day(with_model=True) == 0
    assert sorted(use.usd for use in made.usage) == pytest.approx(
        sorted([6 * 0.44 / 6, 0.0625 * 0.44 / 6, 2 * 0.44 / 6])
    )


def test_a_pipeline_run_counts_its_steps_on_their_instances() -> None:
    definition = {
        "Parameters": [{"Name": "Instance", "DefaultValue": "ml.m5.xlarge"}],
        "Steps": [
            {
                "Type": "Training",
                "Arguments": {"ResourceConfig": {"InstanceType": {"Get": "Parameters.Instance"}}},
            },
            {
                "Type": "Processing",
                "Arguments": {"ProcessingResources": {"ClusterConfig": {"InstanceType": "ml.m5.large"}}},
            },
            {"Type": "Condition", "Arguments": {}},
        ],
    }
    pipeline = resource(
        "AWS::SageMaker::Pipeline",
        PipelineDefinition={"PipelineDefinitionBody": {"Fn::Sub": [json.dumps(definition), {}]}},
    )
    (use,) = cost.bill(assembly_of({"Pipeline": pipeline}), PRICES).usage
    assert use.usd == pytest.approx((0.23 + 0.115) * 5 / 60)
    assert use.assumed == "2 steps of 5 minutes on ml.m5.large, ml.m5.xlarge"


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"Fn::And": [{"Condition": "Yes"}, {"Fn::Equals": ["a", "a"]}]}, True),
        ({"Fn::And": [{"Condition": "Yes"}, {"Fn::Equals": ["a", "b"]}]}, False),
        ({"Fn::Or": [{"Fn::Equals": ["a", "b"]}, "Yes"]}, True),
        ({"Fn::Not": [{"Condition": "Yes"}]}, False),
    ],
)
def test_conditions_are_evaluated(condition: dict[str, Any], *, holds: bool) -> None:
    template = Template("Stack", {"Conditions": {"Yes": {"Fn::Equals": ["x", "x"]}, "Asked": condition}})
    assert cost.View(template, {}).holds("Asked") is holds


def test_an_unknown_condition_is_an_error() -> None:
    with pytest.raises(cost.CostError, match="Fn::Sometimes"):
        cost.View(Template("Stack", {}), {}).holds({"Fn::Sometimes": []})


def test_every_price_states_unit_date_and_source() -> None:
    table = tomllib.loads(cost.PRICES.read_text())
    assert (table["region"], table["currency"]) == ("us-east-1", "USD")
    for entry in (*table["price"].values(), *table["usage"]):
        assert entry["usd"] > 0
        assert isinstance(entry["date"], date)
        assert "Pricing" in entry["source"]
        assert "region" not in entry, "the file is of one region"
    assert all(entry["per"] in cost.HOURS for entry in table["price"].values())


def test_the_dates_of_the_prices_are_shown() -> None:
    assert f"list prices of {PRICES.noted};" in (ROOT / "README.md").read_text()
    later = {"later": {"usd": 1, "per": "hour", "date": date(2030, 1, 2)}}
    prices = cost.Prices({**PRICES.table, "price": {**PRICES.table["price"], **later}})
    assert prices.noted == "2025-06-30 to 2030-01-02"
    shown = cost.as_text(cost.Bill("sandbox", (), (), ()), prices)
    assert "US dollars in us-east-1, list prices of 2025-06-30 to 2030-01-02\n" in shown
    assert cost.as_json([], prices)["prices_of"] == "2025-06-30 to 2030-01-02"


def test_the_command_prints_stacks_totals_and_assumptions(
    assembly: Callable[[str], Assembly], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cost, "synthesize", lambda stage, _: assembly(stage))
    assert cost.main(["--stage", "sandbox"]) == 0
    text = capsys.readouterr().out
    assert "before the first approval" in text
    assert "2 x ml.m5.large (with a model)" in text
    assert "for 1 GB" in text
    assert cost.main(["--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    stacks = figures["stages"]["production"]["stacks"].values()
    total = sum(stack["with_model_usd_a_day"] for stack in stacks)
    assert total == pytest.approx(figures["stages"]["production"]["with_model_usd_a_day"], abs=0.01)


@pytest.mark.parametrize(
    ("given", "ran"),
    [
        ([], "tools.cost"),
        (["STAGE=production"], "tools.cost --stage production"),
        (["STAGE=sandbox", "ARGS=--json"], "tools.cost --stage sandbox --json"),
    ],
)
def test_make_cost_shows_the_stage_that_is_given_and_both_without(given: list[str], ran: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "cost", *given],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    command = done.stdout.splitlines()[-1]
    assert " ".join(command.split()).endswith(f"/python -m {ran}")


def test_the_command_passes_on_why_the_app_did_not_synthesize(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(stage: str, _: Path) -> Assembly:
        raise SynthError(f"app.py failed for stage {stage}: cdk.json: one line")

    monkeypatch.setattr(cost, "synthesize", fail)
    assert cost.main([]) == 1
    assert "cdk.json: one line" in capsys.readouterr().err
