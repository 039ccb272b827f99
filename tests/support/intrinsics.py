"""Template values as the strings that CloudFormation would make of them, with sample names for what AWS generates."""

import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any

from tools.assembly import Assembly, Template

ACCOUNT = "111122223333"
HERE = f"us-east-1:{ACCOUNT}"
PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::NoValue": "",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::StackId": f"arn:aws:cloudformation:{HERE}:stack/sample/0",
    "AWS::StackName": "sample",
    "AWS::URLSuffix": "amazonaws.com",
}
# "Return values" in the CloudFormation Template Reference: what Ref gives, and each attribute; {} is the resource's name.
# A type or attribute that is missing here is an error, so that a policy is never checked against a guess.
RETURN_VALUES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "AWS::ApplicationAutoScaling::ScalableTarget": ("endpoint/{}/variant/all", {}),
    "AWS::CloudWatch::Alarm": ("{}", {"Arn": f"arn:aws:cloudwatch:{HERE}:alarm:{{}}"}),
    "AWS::EC2::SecurityGroup": ("sg-{}", {"GroupId": "sg-{}"}),
    "AWS::EC2::Subnet": ("subnet-{}", {"AvailabilityZone": "us-east-1a"}),
    "AWS::EC2::VPC": ("vpc-{}", {"CidrBlock": "10.0.0.0/16", "DefaultSecurityGroup": "sg-default"}),
    "AWS::EC2::VPCEndpoint": ("vpce-{}", {}),
    "AWS::Events::Rule": ("{}", {"Arn": f"arn:aws:events:{HERE}:rule/{{}}"}),
    "AWS::Glue::Connection": ("{}", {}),
    "AWS::Glue::Crawler": ("{}", {}),
    "AWS::Glue::Database": ("{}", {}),
    "AWS::Glue::Job": ("{}", {}),
    "AWS::Glue::SecurityConfiguration": ("{}", {}),
    "AWS::Glue::Trigger": ("{}", {}),
    "AWS::Glue::Workflow": ("{}", {}),
    "AWS::IAM::Role": ("{}", {"Arn": f"arn:aws:iam::{ACCOUNT}:role/{{}}", "RoleId": "AROA{}"}),
    "AWS::KMS::Key": ("{}", {"Arn": f"arn:aws:kms:{HERE}:key/{{}}", "KeyId": "{}"}),
    "AWS::Kinesis::Stream": ("{}", {"Arn": f"arn:aws:kinesis:{HERE}:stream/{{}}"}),
    "AWS::KinesisFirehose::DeliveryStream": ("{}", {"Arn": f"arn:aws:firehose:{HERE}:deliverystream/{{}}"}),
    "AWS::Lambda::EventSourceMapping": (
        "{}",
        {"EventSourceMappingArn": f"arn:aws:lambda:{HERE}:event-source-mapping:{{}}"},
    ),
    "AWS::Lambda::Function": ("{}", {"Arn": f"arn:aws:lambda:{HERE}:function:{{}}"}),
    "AWS::Logs::LogGroup": ("{}", {"Arn": f"arn:aws:logs:{HERE}:log-group:{{}}:*"}),
    "AWS::Logs::LogStream": ("{}", {}),
    "AWS::S3::Bucket": (
        "{}",
        {"Arn": "arn:aws:s3:::{}", "RegionalDomainName": "{}.s3.us-east-1.amazonaws.com"},
    ),
    "AWS::SNS::Topic": (
        f"arn:aws:sns:{HERE}:{{}}",
        {"TopicName": "{}", "TopicArn": f"arn:aws:sns:{HERE}:{{}}"},
    ),
    "AWS::SQS::Queue": ("https://sqs/{}", {"Arn": f"arn:aws:sqs:{HERE}:{{}}", "QueueName": "{}"}),
    "AWS::SageMaker::Endpoint": (f"arn:aws:sagemaker:{HERE}:endpoint/{{}}", {"EndpointName": "{}"}),
    "AWS::SageMaker::EndpointConfig": (
        f"arn:aws:sagemaker:{HERE}:endpoint-config/{{}}",
        {"EndpointConfigName": "{}"},
    ),
    "AWS::SageMaker::Model": (f"arn:aws:sagemaker:{HERE}:model/{{}}", {"ModelName": "{}"}),
    "AWS::SageMaker::ModelPackageGroup": (
        f"arn:aws:sagemaker:{HERE}:model-package-group/{{}}",
        {"ModelPackageGroupArn": f"arn:aws:sagemaker:{HERE}:model-package-group/{{}}"},
    ),
    "AWS::SageMaker::Pipeline": ("{}", {}),
    "AWS::Scheduler::Schedule": ("{}", {"Arn": f"arn:aws:scheduler:{HERE}:schedule/default/{{}}"}),
}
# The property with which a template chooses the physical name, where it is not generated.
NAME_PROPERTIES = (
    "BucketName",
    "CrawlerName",
    "EndpointName",
    "FunctionName",
    "LogGroupName",
    "ModelPackageGroupName",
    "PipelineName",
    "RoleName",
    "TopicName",
    "Name",
)


class Unresolved(Exception):  # noqa: N818 - reads as what it says
    """A value that this module cannot turn into a string; the message says what to add."""


class Resolver:
    """Resolves the values of one template; an import finds the export in another stack of the assembly."""

    def __init__(self, assembly: Assembly, template: Template) -> None:
        self._assembly = assembly
        self._template = template

    def strings(self, value: Any) -> list[str]:
        """Every string that `value` can become: one, or more where a condition or a mapping chooses."""
        if isinstance(value, list):
            return [string for item in value for string in self.strings(item)]
        if isinstance(value, str | int | float):
            return [str(value)]
        if isinstance(value, dict) and len(value) == 1:
            (function, argument), *_ = value.items()
            return self._call(function, argument)
        raise Unresolved(f"{self._template.stack}: {value!r} is no string and no intrinsic function")

    def _call(self, function: str, argument: Any) -> list[str]:
        known: dict[str, Callable[[Any], list[str]]] = {
            "Ref": lambda name: [self._ref(name)],
            "Fn::GetAtt": lambda path: [
                self._attribute(*(path if isinstance(path, list) else path.split(".", 1)))
            ],
            "Fn::Join": self._join,
            "Fn::Sub": lambda text: [self._substitute(text)],
            "Fn::If": lambda branches: self.strings(branches[1:]),
            "Fn::ImportValue": self._import,
            "Fn::FindInMap": self._any_in_map,
            "Fn::Select": lambda choice: self.strings(self._items(choice[1])[int(choice[0])]),
        }
        if function not in known:
            raise Unresolved(f"{function}: teach tests/support/intrinsics.py this function")
        return known[function](argument)

    def _join(self, argument: Any) -> list[str]:
        parts = [self.strings(part) for part in argument[1]]
        return [argument[0].join(choice) for choice in itertools.product(*parts)]

    def _any_in_map(self, argument: Any) -> list[str]:
        mapping = self._template.json["Mappings"][argument[0]]
        return sorted({str(values[argument[2]]) for values in mapping.values()})

    def _items(self, value: Any) -> list[Any]:
        if isinstance(value, dict) and "Fn::Split" in value:
            separator, joined = value["Fn::Split"]
            return self.strings(joined)[0].split(separator)
        if isinstance(value, dict) and "Fn::GetAZs" in value:
            return ["us-east-1a", "us-east-1b", "us-east-1c"]
        return list(value)

    def _ref(self, name: str) -> str:
        if name in PSEUDO:
            return PSEUDO[name]
        parameter = self._template.json.get("Parameters", {}).get(name)
        if parameter is not None:
            return str(parameter.get("Default", name))
        return self._return_value(name)[0]

    def _attribute(self, name: str, attribute: str) -> str:
        attributes = self._return_value(name)[1]
        if attribute not in attributes:
            resource_type = self._template.resources()[name]["Type"]
            raise Unresolved(
                f"{resource_type}.{attribute}: add it to RETURN_VALUES in tests/support/intrinsics.py"
            )
        return attributes[attribute]

    def _return_value(self, name: str) -> tuple[str, dict[str, str]]:
        resource = self._template.resources()[name]
        if resource["Type"] not in RETURN_VALUES:
            raise Unresolved(f"{resource['Type']}: add it to RETURN_VALUES in tests/support/intrinsics.py")
        properties = resource.get("Properties", {})
        chosen = next((properties[key] for key in NAME_PROPERTIES if key in properties), name.lower())
        physical = self.strings(chosen)[0]
        reference, attributes = RETURN_VALUES[resource["Type"]]
        return reference.format(physical), {key: text.format(physical) for key, text in attributes.items()}

    def _substitute(self, argument: Any) -> str:
        text, names = argument if isinstance(argument, list) else (argument, {})

        def replace(match: re.Match[str]) -> str:
            name = match[1]
            if name in names:
                return self.strings(names[name])[0]
            return self._attribute(*name.split(".", 1)) if "." in name else self._ref(name)

        return re.sub(r"\$\{([^!}][^}]*)\}", replace, text)

    def _import(self, argument: Any) -> list[str]:
        wanted = self.strings(argument)[0]
        for template in self._assembly.templates.values():
            exporter = Resolver(self._assembly, template)
            for output in template.outputs.values():
                if "Export" in output and exporter.strings(output["Export"]["Name"])[0] == wanted:
                    return exporter.strings(output["Value"])
        raise Unresolved(f"no stack exports {wanted}")
