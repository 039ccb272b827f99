"""What passes from resource to resource in the whole system, read from the synthesized templates.

A node is a resource; an edge is a reference, a trigger, an event rule or a name in an environment variable that a
template really holds. Remove a trigger from a stack and its edge is gone. Rules, queues and workflows in between become
part of the edge.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tools.assembly import Assembly, Resource

Node = tuple[str, str]
"""Stack and logical id."""

# What the flow is made of, and what AWS calls it.
SHOWN: Mapping[str, str] = {
    "AWS::Glue::Crawler": "Glue crawler",
    "AWS::Glue::Job": "Glue job",
    "AWS::Kinesis::Stream": "Kinesis Data Stream",
    "AWS::KinesisFirehose::DeliveryStream": "Data Firehose",
    "AWS::Lambda::Function": "Lambda",
    "AWS::S3::Bucket": "S3",
    "AWS::SNS::Topic": "SNS",
    "AWS::SageMaker::Endpoint": "SageMaker endpoint",
    "AWS::SageMaker::ModelPackageGroup": "Model Registry",
    "AWS::SageMaker::Pipeline": "SageMaker Pipeline",
    "AWS::Scheduler::Schedule": "EventBridge Scheduler",
}
# Names that cross stacks as plain strings, because the thing need not exist yet: key → type of what it names.
NAMED_BY_KEY = {
    "ENDPOINT_NAME": "AWS::SageMaker::Endpoint",
    "EndpointName": "AWS::SageMaker::Endpoint",
    "ModelPackageGroupName": "AWS::SageMaker::ModelPackageGroup",
    "SERVING_STACK_NAME": "AWS::CloudFormation::Stack",
}
# What a function does with what its settings name; the other settings do not lie on the flow.
VERBS = {
    "ENDPOINT_NAME": "invoke",
    "PREDICTIONS_BUCKET": "predictions",
    "SERVING_STACK_NAME": "update",
}


class FlowError(Exception):
    """The templates cannot be read as a flow; the message says why."""


@dataclasses.dataclass(frozen=True)
class Edge:
    """Something passes from one resource to another; `on` is false where a rule or schedule is switched off."""

    source: Node
    target: Node
    label: str = ""
    on: bool = True


class Flow:
    """The resources of an assembly and what passes between them."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self.resources: dict[Node, Resource] = {
            (stack, name): resource
            for stack, template in assembly.templates.items()
            for name, resource in template.resources().items()
        }
        self._exports = {
            output["Export"]["Name"]: self.named(output["Value"], stack)
            for stack, template in assembly.templates.items()
            for output in template.outputs.values()
            if "Export" in output
        }
        self._stacks = {
            artifact["properties"]["stackName"]: name
            for name, artifact in assembly.manifest["artifacts"].items()
            if artifact["type"] == "aws:cloudformation:stack"
        }

    def edges(self) -> list[Edge]:
        """What passes between drawn resources; a chain through others that are not drawn is one edge."""
        raw = [edge for node, resource in self.resources.items() for edge in self._edges(node, resource)]
        outgoing: dict[Node, list[Edge]] = {}
        for edge in raw:
            outgoing.setdefault(edge.source, []).append(edge)
        found: dict[tuple[Node, Node], Edge] = {}
        for start in filter(self.is_drawn, self.resources):
            for edge in self._follow(start, outgoing):
                known = found.get((edge.source, edge.target))
                if known is None or (edge.on and not known.on):
                    found[edge.source, edge.target] = edge
        return list(found.values())

    def is_drawn(self, node: Node) -> bool:
        """Whether the picture shows this resource."""
        return self.resources[node]["Type"] in SHOWN

    def kind(self, node: Node) -> str:
        """The resource's type."""
        kind: str = self.resources[node]["Type"]
        return kind

    def title(self, node: Node) -> str:
        """The construct's own name: the first part of its path below the stack, as words."""
        stack, name = node
        for path, entries in self._assembly.read(f"{stack}.metadata.json").items():
            if any(entry["type"] == "aws:cdk:logicalId" and entry["data"] == name for entry in entries):
                words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", path.split("/")[2])
                return words[0] + words[1:].lower()
        raise FlowError(f"{stack}/{name}: no construct path in {stack}.metadata.json. Synthesize again.")

    def _follow(self, start: Node, outgoing: Mapping[Node, Sequence[Edge]]) -> Iterator[Edge]:
        reached = [Edge(start, start)]
        while reached:
            so_far = reached.pop()
            for edge in outgoing.get(so_far.target, ()):
                further = Edge(start, edge.target, edge.label or so_far.label, so_far.on and edge.on)
                if self.is_drawn(edge.target):
                    yield further
                else:
                    reached.append(further)

    def _edges(self, node: Node, resource: Resource) -> Iterator[Edge]:
        reader = _READERS.get(resource["Type"])
        return reader(_Reading(self, node, resource["Properties"])) if reader else iter(())

    def named(self, value: Any, stack: str, key: str = "") -> list[Node]:
        """Every resource that a property's value names: by reference, by import, by ARN, or by a known key."""
        if isinstance(value, list):
            return [node for item in value for node in self.named(item, stack, key)]
        if isinstance(value, str):
            return self._by_name(value, key)
        if not isinstance(value, dict):
            return []
        named = [node for name, item in value.items() for node in self.named(item, stack, name)]
        if "Ref" in value and (stack, value["Ref"]) in self.resources:
            named.append((stack, value["Ref"]))
        if "Fn::GetAtt" in value:
            named.append((stack, value["Fn::GetAtt"][0]))
        if "Fn::ImportValue" in value:
            named += self._exports[value["Fn::ImportValue"]]
        if "Fn::Join" in value:
            named += self._by_arn(
                "".join(part if isinstance(part, str) else "*" for part in value["Fn::Join"][1])
            )
        return named

    def _by_name(self, name: str, key: str) -> list[Node]:
        kind = NAMED_BY_KEY.get(key)
        if kind == "AWS::CloudFormation::Stack":
            return self._of_stack(name)
        return self._of_kind(kind, name) if kind else []

    def _by_arn(self, arn: str) -> list[Node]:
        if found := re.search(r":pipeline/([\w-]+)$", arn):
            return self._of_kind("AWS::SageMaker::Pipeline", found[1])
        if found := re.search(r":stack/([\w-]+)/", arn):
            return self._of_stack(found[1])
        return []

    def _of_stack(self, name: str) -> list[Node]:
        return [node for node in self.resources if node[0] == self._stacks.get(name) and self.is_drawn(node)]

    def _of_kind(self, kind: str, name: str) -> list[Node]:
        return [
            node
            for node, resource in self.resources.items()
            if resource["Type"] == kind and name in resource["Properties"].values()
        ]


@dataclasses.dataclass(frozen=True)
class _Reading:
    """A resource whose properties are being read."""

    flow: Flow
    node: Node
    properties: Mapping[str, Any]

    def named(self, value: Any) -> list[Node]:
        return self.flow.named(value, self.node[0])


def _join(
    sources: Iterable[Node], targets: Iterable[Node], label: str = "", *, on: bool = True
) -> Iterator[Edge]:
    for source, target in itertools.product(sources, targets):
        yield Edge(source, target, label, on)


def _firehose(firehose: _Reading) -> Iterator[Edge]:
    source = firehose.properties["KinesisStreamSourceConfiguration"]["KinesisStreamARN"]
    yield from _join(firehose.named(source), [firehose.node])
    bucket = firehose.properties["ExtendedS3DestinationConfiguration"]["BucketARN"]
    yield from _join([firehose.node], firehose.named(bucket))


def _event_source(mapping: _Reading) -> Iterator[Edge]:
    source, function = mapping.properties["EventSourceArn"], mapping.properties["FunctionName"]
    return _join(mapping.named(source), mapping.named(function))


def _function(function: _Reading) -> Iterator[Edge]:
    variables = function.properties.get("Environment", {}).get("Variables", {})
    for key, verb in VERBS.items():
        # Who updates the stack knows the endpoint's name too, and does not invoke it.
        if key in variables and not (key == "ENDPOINT_NAME" and "SERVING_STACK_NAME" in variables):
            yield from _join([function.node], function.named({key: variables[key]}), verb)


def _crawler(crawler: _Reading) -> Iterator[Edge]:
    return _join(crawler.named(crawler.properties["Targets"]), [crawler.node])


def _trigger(trigger: _Reading) -> Iterator[Edge]:
    before = trigger.properties.get("Predicate") or trigger.properties["WorkflowName"]
    return _join(trigger.named(before), trigger.named(trigger.properties["Actions"]))


def _job(job: _Reading) -> Iterator[Edge]:
    arguments = job.properties["DefaultArguments"]
    yield from _join(job.named([arguments.get("--batch"), arguments.get("--stream")]), [job.node])
    yield from _join([job.node], job.named(arguments.get("--curated")), "Parquet")


def _rule(rule: _Reading) -> Iterator[Edge]:
    on = rule.properties.get("State") != "DISABLED"
    pattern = rule.properties.get("EventPattern", {})  # a schedule has none
    label = "approved" if "ModelApprovalStatus" in pattern.get("detail", {}) else ""
    yield from _join(rule.named(pattern), [rule.node], label, on=on)
    yield from _join(
        [rule.node], rule.named([target["Arn"] for target in rule.properties["Targets"]]), label, on=on
    )


def _schedule(schedule: _Reading) -> Iterator[Edge]:
    on = schedule.properties["State"] != "DISABLED"
    return _join([schedule.node], schedule.named(schedule.properties["Target"]["Arn"]), on=on)


def _pipeline(pipeline: _Reading) -> Iterator[Edge]:
    filled_in = pipeline.properties["PipelineDefinition"]["PipelineDefinitionBody"]["Fn::Sub"][1]
    group = {"ModelPackageGroupName": filled_in["ModelPackageGroupName"]}
    yield from _join(pipeline.named(filled_in["CuratedUri"]), [pipeline.node])
    yield from _join([pipeline.node], pipeline.named(group), "register")


def _endpoint(endpoint: _Reading) -> Iterator[Edge]:
    for config in endpoint.named(endpoint.properties["EndpointConfigName"]):
        capture = endpoint.flow.resources[config]["Properties"].get("DataCaptureConfig", {})
        yield from _join([endpoint.node], endpoint.named(capture.get("DestinationS3Uri")), "data capture")


_READERS: Mapping[str, Callable[[_Reading], Iterator[Edge]]] = {
    "AWS::Events::Rule": _rule,
    "AWS::Glue::Crawler": _crawler,
    "AWS::Glue::Job": _job,
    "AWS::Glue::Trigger": _trigger,
    "AWS::KinesisFirehose::DeliveryStream": _firehose,
    "AWS::Lambda::EventSourceMapping": _event_source,
    "AWS::Lambda::Function": _function,
    "AWS::SageMaker::Endpoint": _endpoint,
    "AWS::SageMaker::Pipeline": _pipeline,
    "AWS::Scheduler::Schedule": _schedule,
}
