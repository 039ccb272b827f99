"""What a deployment costs, read from the synthesized templates: idle before the first approval, and with a model.

    python -m tools.cost                     both stages
    python -m tools.cost --stage production  one stage
    python -m tools.cost --json              the same figures for programs

Prices and assumptions stand in `tools/prices.toml`. A resource type that it does not know is an error: a cost that
nobody has thought about must not read as zero.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.assembly import Assembly, Resource, SynthError, Template, synthesize

PRICES = Path(__file__).with_name("prices.toml")
STAGES = ("sandbox", "production")
HOURS = {"hour": 1.0, "month": 730.0}
GROUP = "arn:aws:sagemaker:us-east-1:111122223333:model-package/flights"
# The parameters that hold a model version: one in service, and another one beside it in an experiment.
PACKAGES = {"ModelPackageArn": f"{GROUP}/1", "ChallengerPackageArn": f"{GROUP}/2"}
# "Worker types" (AWS Glue Developer Guide): data processing units of a worker.
DPUS = {"G.1X": 1, "G.2X": 2, "G.4X": 4}

Quantities = list[tuple[str, float]]
Run = tuple[str, str, float]
"""What is run, how much of it is assumed, and what that costs in dollars."""


class CostError(Exception):
    """Something has no price: the message says what, where it stands, and where to write the price."""


@dataclasses.dataclass(frozen=True)
class Line:
    """One resource's part of the bill while it exists: `quantity` times a price; dollars a day."""

    stack: str
    resource: str
    what: str
    quantity: float
    usd_a_day: float
    needs_model: bool


@dataclasses.dataclass(frozen=True)
class Usage:
    """What is paid for by use: dollars for the assumed quantity."""

    stack: str
    what: str
    assumed: str
    usd: float


@dataclasses.dataclass(frozen=True)
class Bill:
    """A stage's cost in US dollars."""

    stage: str
    stacks: tuple[str, ...]
    lines: tuple[Line, ...]
    usage: tuple[Usage, ...]

    def a_day(self, stack: str | None = None, *, with_model: bool) -> float:
        """Dollars a day of one stack, or of all."""
        return sum(
            line.usd_a_day
            for line in self.lines
            if stack in {None, line.stack} and (with_model or not line.needs_model)
        )


@dataclasses.dataclass(frozen=True)
class View:
    """A template as CloudFormation would see it under given parameters."""

    template: Template
    parameters: Mapping[str, str]

    def value(self, node: Any) -> Any:
        """A literal, a parameter's value, or what a mapping gives; other intrinsics are returned as they are."""
        if isinstance(node, dict) and "Ref" in node:
            declared = self.template.json.get("Parameters", {}).get(node["Ref"], {})
            return self.parameters.get(node["Ref"], declared.get("Default", node))
        if isinstance(node, dict) and "Fn::FindInMap" in node:
            name, top, second = (self.value(part) for part in node["Fn::FindInMap"])
            return self.template.json["Mappings"][name][top][second]
        return node

    def holds(self, condition: Any) -> bool:
        """Whether a condition, by name or as an expression, is true."""
        if isinstance(condition, str):
            return self.holds(self.template.json["Conditions"][condition])
        (function, arguments), *_ = condition.items()
        match function:
            case "Fn::Equals":
                return bool(self.value(arguments[0]) == self.value(arguments[1]))
            case "Fn::Not":
                return not self.holds(arguments[0])
            case "Fn::And":
                return all(self.holds(argument) for argument in arguments)
            case "Fn::Or":
                return any(self.holds(argument) for argument in arguments)
            case "Condition":
                return self.holds(arguments)
        raise CostError(f"{self.template.stack}: condition {function}: teach tools/cost.py to evaluate it.")

    def exists(self, resource: Resource) -> bool:
        """Whether the resource is created."""
        return "Condition" not in resource or self.holds(resource["Condition"])


def _stream(_: View, properties: Mapping[str, Any]) -> Quantities:
    if properties["StreamModeDetails"]["StreamMode"] == "ON_DEMAND":
        return [("Kinesis on-demand stream", 1)]
    shards = properties["ShardCount"]
    longer = properties["RetentionPeriodHours"] > 24
    return [("Kinesis shard", shards), *([("Kinesis shard, kept over 24 hours", shards)] if longer else [])]


def _vpc_endpoint(_: View, properties: Mapping[str, Any]) -> Quantities:
    zones = len(properties["SubnetIds"]) if properties["VpcEndpointType"] == "Interface" else 0
    return [("VPC interface endpoint in a zone", zones)]


def _alarm(_: View, properties: Mapping[str, Any]) -> Quantities:
    metrics = [metric for metric in properties.get("Metrics", ()) if "MetricStat" in metric]
    return [("CloudWatch alarm metric", len(metrics) or 1)]


def _scaling_policy(_: View, properties: Mapping[str, Any]) -> Quantities:
    # Target tracking makes one alarm to scale out and one to scale in; a step's alarm stands in the template.
    tracking = properties["PolicyType"] == "TargetTrackingScaling"
    return [("CloudWatch alarm metric", 2 if tracking else 0)]


def _endpoint(view: View, properties: Mapping[str, Any]) -> Quantities:
    """The instances that wait for requests: those of an asynchronous endpoint are its scaling's minimum, or none."""
    config = view.template.resources()[properties["EndpointConfigName"]["Fn::GetAtt"][0]]["Properties"]
    if "AsyncInferenceConfig" in config:
        (variant,) = config["ProductionVariants"]
        target = view.template.only("AWS::ApplicationAutoScaling::ScalableTarget")["Properties"]
        return [_variant(view, variant)] if target["MinCapacity"] else []
    variants = [*config["ProductionVariants"], *config.get("ShadowProductionVariants", [])]
    return [_variant(view, variant) for variant in variants]


def _variant(view: View, variant: Mapping[str, Any]) -> tuple[str, float]:
    if serverless := variant.get("ServerlessConfig"):
        warm = serverless.get("ProvisionedConcurrency", 0)
        return "GB of a serverless copy kept warm", warm * serverless["MemorySizeInMB"] / 1024
    return view.value(variant["InstanceType"]), float(view.value(variant["InitialInstanceCount"]))


def _event_source(view: View, properties: Mapping[str, Any]) -> Quantities:
    source = properties["EventSourceArn"]
    name = source["Fn::GetAtt"][0] if "Fn::GetAtt" in source else None
    polled = name in view.template.resources("AWS::SQS::Queue")
    return [("queue polled by a function", 1)] if polled else []


# What is paid for while it exists: how many of which price.
IDLE: Mapping[str, Callable[[View, Mapping[str, Any]], Quantities]] = {
    "AWS::ApplicationAutoScaling::ScalingPolicy": _scaling_policy,
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::CloudWatch::Dashboard": lambda *_: [("CloudWatch dashboard", 1)],
    "AWS::EC2::VPCEndpoint": _vpc_endpoint,
    "AWS::KMS::Key": lambda *_: [("KMS key", 1)],
    "AWS::Kinesis::Stream": _stream,
    "AWS::Lambda::EventSourceMapping": _event_source,
    "AWS::SageMaker::Endpoint": _endpoint,
}


@dataclasses.dataclass(frozen=True)
class Prices:
    """`tools/prices.toml`."""

    table: Mapping[str, Any]

    @property
    def noted(self) -> str:
        """The date on which the prices were noted; the first and the last, if there are several."""
        dates = [entry["date"] for entry in (*self.table["price"].values(), *self.table["usage"])]
        return " to ".join(dict.fromkeys(f"{day}" for day in (min(dates), max(dates))))

    def hourly(self, what: str, where: str) -> float:
        """Dollars an hour. Raises `CostError` for an instance type that nobody has noted."""
        if what not in self.table["price"]:
            raise CostError(
                f"{where}: tools/prices.toml has no price for {what}.\nAdd this line there, under [price], with its dollars "
                f"an hour on demand in {self.table['region']} (Real-Time Inference, Processing or Training, on "
                "https://aws.amazon.com/sagemaker/ai/pricing/):\n"
                f'"{what}" = {{ usd = ..., per = "hour", date = {datetime.now(UTC).date()}, source = "Amazon SageMaker AI Pricing" }}'
            )
        entry = self.table["price"][what]
        return float(entry["usd"]) / HOURS[entry["per"]]

    def run(self, what: str) -> Mapping[str, float]:
        """The assumed length of a run (minutes or seconds), and what else its price takes."""
        run: Mapping[str, float] = self.table["run"][what]
        return run


def _glue_job(prices: Prices, where: str, properties: Mapping[str, Any]) -> Run:
    minutes = prices.run("Glue job")["minutes"]
    if properties["Command"]["Name"] == "pythonshell":
        dpus = float(properties["MaxCapacity"])
    else:
        dpus = properties["NumberOfWorkers"] * DPUS[properties["WorkerType"]]
    usd = dpus * minutes / 60 * prices.hourly("Glue DPU", where)
    return "run of a Glue job", f"{minutes:g} minutes of {dpus:g} DPU", usd


def _glue_crawler(prices: Prices, where: str, _: Mapping[str, Any]) -> Run:
    run = prices.run("Glue crawler")
    usd = run["dpus"] * run["minutes"] / 60 * prices.hourly("Glue DPU", where)
    return "run of a Glue crawler", f"{run['minutes']:g} minutes of {run['dpus']:g} DPU", usd


def _pipeline(prices: Prices, where: str, properties: Mapping[str, Any]) -> Run:
    """One execution: each processing and training step for the assumed minutes, on its default instance."""
    body = properties["PipelineDefinition"]["PipelineDefinitionBody"]
    text = body["Fn::Sub"] if isinstance(body, Mapping) else body
    definition = json.loads(text[0] if isinstance(text, list) else text)
    defaults = {parameter["Name"]: parameter.get("DefaultValue") for parameter in definition["Parameters"]}
    minutes = prices.run("pipeline step")["minutes"]
    instances = [
        _instance(step, defaults)
        for step in definition["Steps"]
        if step["Type"] in {"Processing", "Training"}
    ]
    usd = sum(minutes / 60 * prices.hourly(instance, where) for instance in instances)
    return (
        "run of the pipeline",
        f"{len(instances)} steps of {minutes:g} minutes on {', '.join(sorted(set(instances)))}",
        usd,
    )


def _instance(step: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    arguments = step["Arguments"]
    cluster = arguments.get("ResourceConfig") or arguments["ProcessingResources"]["ClusterConfig"]
    chosen = cluster["InstanceType"]
    return str(defaults[chosen["Get"].removeprefix("Parameters.")] if isinstance(chosen, Mapping) else chosen)


def _function(prices: Prices, where: str, properties: Mapping[str, Any]) -> Run:
    run, memory = prices.run("function"), properties["MemorySize"]
    usd = (
        memory
        / 1024
        * run["invocations"]
        * run["seconds"]
        / 3600
        * prices.hourly("GB of a running function", where)
    )
    return "run of a function", f"{run['invocations']:,} of {run['seconds']:g} s at {memory} MB", usd


def _on_demand(prices: Prices, where: str, properties: Mapping[str, Any]) -> Run | None:
    """What an endpoint costs by use: a serverless one by the request, an asynchronous one while it has something to do."""
    variant = properties["ProductionVariants"][0]
    if "AsyncInferenceConfig" in properties:
        instance, minutes = variant["InstanceType"], prices.run("asynchronous instance")["minutes"]
        usd = minutes / 60 * prices.hourly(instance, where)
        return "instance of the asynchronous endpoint", f"{minutes:g} minutes of {instance}", usd
    if serverless := variant.get("ServerlessConfig"):
        run, memory = prices.run("serverless request"), serverless["MemorySizeInMB"]
        seconds = run["requests"] * run["seconds"]
        usd = memory / 1024 * seconds / 3600 * prices.hourly("GB of a serverless copy", where)
        return (
            "requests to the serverless endpoint",
            f"{run['requests']:,} of {run['seconds']:g} s at {memory} MB",
            usd,
        )
    return None  # instances that wait are paid for while they exist


def _schedule(prices: Prices, where: str, properties: Mapping[str, Any]) -> Run | None:
    """A schedule costs what it starts: a transform job's instances stand in its request."""
    text = properties["Target"].get("Input", "")
    if isinstance(text, Mapping):  # what CloudFormation fills in are names
        text = "".join(part if isinstance(part, str) else "name" for part in text["Fn::Join"][1])
    if "TransformResources" not in text:
        return None
    resources, minutes = json.loads(text)["TransformResources"], prices.run("transform job")["minutes"]
    instance, count = resources["InstanceType"], resources["InstanceCount"]
    usd = count * minutes / 60 * prices.hourly(instance, where)
    return "run of a transform job", f"{minutes:g} minutes of {count} x {instance}", usd


# What is paid for by the run, where the price of a run follows from the template.
RUNS: Mapping[str, Callable[[Prices, str, Mapping[str, Any]], Run | None]] = {
    "AWS::Glue::Crawler": _glue_crawler,
    "AWS::Glue::Job": _glue_job,
    "AWS::Lambda::Function": _function,
    "AWS::SageMaker::EndpointConfig": _on_demand,
    "AWS::Scheduler::Schedule": _schedule,
    "AWS::SageMaker::Pipeline": _pipeline,
}


def load_prices(path: Path = PRICES) -> Prices:
    """Read the price file."""
    return Prices(tomllib.loads(path.read_text()))


def bill(assembly: Assembly, prices: Prices) -> Bill:
    """Walk every resource of every stack. Raises `CostError` for a type or an instance without a price."""
    lines: list[Line] = []
    usage: list[Usage] = []
    for template in assembly.templates.values():
        lines += _lines(template, prices)
        usage += _usage(template, prices)
    return Bill(assembly.stage, tuple(assembly.templates), tuple(lines), tuple(usage))


def _lines(template: Template, prices: Prices) -> Iterator[Line]:
    before, serving = View(template, {}), View(template, PACKAGES)
    known = {
        *IDLE,
        *RUNS,
        *prices.table["free"]["types"],
        *(entry["type"] for entry in prices.table["usage"]),
    }
    for name, resource in template.resources().items():
        where = f"{template.stack}/{name}"
        if resource["Type"] not in known:
            raise CostError(
                f"{where}: nobody has said what {resource['Type']} costs. In tools/prices.toml, list it under [free] or "
                "[[usage]]; if it is paid for while it is idle, add it to IDLE in tools/cost.py."
            )
        if resource["Type"] in IDLE and serving.exists(resource):
            for what, quantity in IDLE[resource["Type"]](serving, resource["Properties"]):
                if quantity:
                    a_day = 24 * quantity * prices.hourly(what, where)
                    yield Line(template.stack, name, what, quantity, a_day, not before.exists(resource))


def _usage(template: Template, prices: Prices) -> Iterator[Usage]:
    for entry in prices.table["usage"]:
        count = len(template.resources(entry["type"]))
        if count:
            usd = entry["usd"] * (count if entry.get("each") else 1)
            what = f"{entry['what']} ({count})" if entry.get("each") else entry["what"]
            yield Usage(template.stack, what, entry["assumed"], usd)
    for kind, run in RUNS.items():
        for name, resource in template.resources(kind).items():
            if found := run(prices, f"{template.stack}/{name}", resource["Properties"]):
                yield Usage(template.stack, *found)


def as_json(bills: Iterable[Bill], prices: Prices) -> dict[str, Any]:
    """The figures for programs; dollars, days, and months of 730 hours."""
    return {
        "region": prices.table["region"],
        "prices_of": prices.noted,
        "stages": {
            one.stage: {
                "stacks": {
                    stack: {
                        "before_approval_usd_a_day": round(one.a_day(stack, with_model=False), 4),
                        "with_model_usd_a_day": round(one.a_day(stack, with_model=True), 4),
                    }
                    for stack in one.stacks
                },
                "before_approval_usd_a_day": round(one.a_day(with_model=False), 4),
                "with_model_usd_a_day": round(one.a_day(with_model=True), 4),
                "lines": [dataclasses.asdict(line) for line in one.lines],
                "usage": [dataclasses.asdict(usage) for usage in one.usage],
            }
            for one in bills
        },
    }


def as_text(one: Bill, prices: Prices) -> str:
    """The figures for people."""
    month = HOURS["month"] / 24
    rows = [
        f"Stage {one.stage}: US dollars in {prices.table['region']}, list prices of {prices.noted}",
        "",
    ]
    rows.append(f"{'':<14}{'before the first approval':>28}{'with a model in service':>28}")
    rows.append(f"{'stack':<14}{'a day':>14}{'a month':>14}{'a day':>14}{'a month':>14}")
    for label, stack in [*((stack, stack) for stack in one.stacks), ("total", None)]:
        before, serving = one.a_day(stack, with_model=False), one.a_day(stack, with_model=True)
        rows.append(
            f"{label:<14}{before:>14.2f}{before * month:>14.2f}{serving:>14.2f}{serving * month:>14.2f}"
        )
    rows += ["", "Paid for while it exists"]
    totals: dict[tuple[str, str, bool], tuple[float, float]] = {}
    for line in one.lines:
        quantity, usd = totals.get((line.stack, line.what, line.needs_model), (0.0, 0.0))
        totals[line.stack, line.what, line.needs_model] = (quantity + line.quantity, usd + line.usd_a_day)
    for (stack, what, needs_model), (quantity, usd) in totals.items():
        label = f"{quantity:g} x {what}" + (" (with a model)" if needs_model else "")
        rows.append(f"  {stack:<12}{label:<58}{usd:>10.2f} a day")
    rows += ["", "Paid for by use: not in the totals; dollars for the assumed quantity"]
    rows += [f"  {use.stack:<12}{use.what:<58}{use.usd:>10.2f} for {use.assumed}" for use in one.usage]
    rows += [
        "",
        "A blue/green rollout runs a second fleet beside the first until it ends: twice the instances for that time.",
    ]
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the bill of one stage or of both."""
    parser = argparse.ArgumentParser(prog="python -m tools.cost", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stage", choices=STAGES, action="append", help="default: both")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    prices = load_prices()
    try:
        with tempfile.TemporaryDirectory() as out:
            stages = arguments.stage or STAGES
            bills = [bill(synthesize(stage, Path(out) / stage), prices) for stage in stages]
    except (CostError, SynthError) as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(as_json(bills, prices), indent=1))
    else:
        print("\n\n\n".join(as_text(one, prices) for one in bills))
    return 0


if __name__ == "__main__":
    sys.exit(main())
