"""A deployed assembly: each resource with its physical id and its properties as CloudFormation resolved them."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from local.cloud.place import ACCOUNT, REGION
from tests.support.intrinsics import ACCOUNT as SAMPLE_ACCOUNT
from tests.support.intrinsics import RETURN_VALUES
from tools.assembly import Assembly, Template

PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::URLSuffix": "amazonaws.com",
}


@dataclasses.dataclass(frozen=True)
class Resource:
    """One resource of one stack."""

    stack: str
    logical_id: str
    type: str
    physical_id: str
    properties: Mapping[str, Any]


class Deployment:
    """What CloudFormation made of an assembly, told by its API."""

    def __init__(self, assembly: Assembly, cloudformation: Any) -> None:
        self._assembly, self._api = assembly, cloudformation
        self._known: dict[str, dict[str, str]] = {}
        exports = cloudformation.get_paginator("list_exports").paginate()
        self._exports = {item["Name"]: item["Value"] for page in exports for item in page["Exports"]}

    def resources(self) -> Iterator[Resource]:
        """Every resource that exists: one under a false condition does not."""
        for template in self._assembly.templates.values():
            for logical_id, physical_id in self._physical_ids(template).items():
                resource = template.resources()[logical_id]
                properties = self._resolve(template, resource.get("Properties", {}))
                yield Resource(template.stack, logical_id, resource["Type"], physical_id, properties)

    def stack_name(self, template: Template) -> str:
        name: str = self._assembly.manifest["artifacts"][template.stack]["properties"]["stackName"]
        return name

    def _physical_ids(self, template: Template) -> dict[str, str]:
        if template.stack not in self._known:
            self._known[template.stack] = dict(self._listed(self.stack_name(template)))
        return self._known[template.stack]

    def _listed(self, stack: str) -> Iterator[tuple[str, str]]:
        for page in self._api.get_paginator("list_stack_resources").paginate(StackName=stack):
            for item in page["StackResourceSummaries"]:
                yield item["LogicalResourceId"], item["PhysicalResourceId"]

    def _resolve(self, template: Template, value: Any) -> Any:
        if isinstance(value, list):
            return [self._resolve(template, item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (function, argument), *_ = value.items()
            known = self._functions(template)
            if function in known:
                return known[function](argument)
        return {key: self._resolve(template, item) for key, item in value.items()}

    def _functions(self, template: Template) -> dict[str, Callable[[Any], Any]]:
        resolve = functools.partial(self._resolve, template)
        return {
            "Ref": lambda name: self._ref(template, name),
            "Fn::GetAtt": lambda path: self._attribute(template, *path),
            "Fn::ImportValue": lambda name: self._exports[resolve(name)],
            "Fn::Join": lambda given: given[0].join(str(part) for part in resolve(given[1])),
            "Fn::Select": lambda given: resolve(given[1])[int(given[0])],
            "Fn::Split": lambda given: resolve(given[1]).split(given[0]),
            "Fn::GetAZs": lambda _: [f"{REGION}{zone}" for zone in "abc"],
            "Fn::FindInMap": lambda given: template.json["Mappings"][given[0]][resolve(given[1])][given[2]],
            "Fn::If": lambda given: resolve(given[1 if self._holds(template, given[0]) else 2]),
            "Fn::Sub": lambda given: self._substitute(template, given),
        }

    def _holds(self, template: Template, condition: str) -> bool:
        one, other = self._resolve(template, template.json["Conditions"][condition]["Fn::Equals"])
        return bool(one == other)

    def _ref(self, template: Template, name: str) -> Any:
        if name in PSEUDO:
            return PSEUDO[name]
        if name in template.json.get("Parameters", {}):
            return self._parameters(template)[name]
        return self._physical_ids(template)[name]

    def _parameters(self, template: Template) -> Mapping[str, str]:
        [stack] = self._api.describe_stacks(StackName=self.stack_name(template))["Stacks"]
        return {it["ParameterKey"]: it["ParameterValue"] for it in stack["Parameters"]}

    def _attribute(self, template: Template, name: str, attribute: str) -> str:
        kind, physical_id = template.resources()[name]["Type"], self._physical_ids(template)[name]
        form = RETURN_VALUES[kind][1][attribute].replace(SAMPLE_ACCOUNT, ACCOUNT).replace("sg-{}", "{}")
        by_name = kind == "AWS::SQS::Queue" or kind.startswith("AWS::SageMaker::")
        return form.format(physical_id.rpartition("/")[2] if by_name else physical_id)

    def _substitute(self, template: Template, given: Any) -> str:
        text, names = given if isinstance(given, list) else (given, {})

        def replace(match: re.Match[str]) -> str:
            name = match[1]
            if name in names:
                return str(self._resolve(template, names[name]))
            return str(
                self._attribute(template, *name.split(".", 1)) if "." in name else self._ref(template, name)
            )

        return re.sub(r"\$\{([^!}][^}]*)\}", replace, text)
