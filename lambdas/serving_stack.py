"""The Serving stack as the release functions see it: read it, and change its one parameter."""

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

MODEL_PARAMETER = "ModelPackageArn"
CONFIG_OUTPUT = "EndpointConfigName"


class StackBusyError(Exception):
    """An update is running: CloudFormation takes no other before it has ended. Try again later."""


@dataclass(frozen=True)
class ServingStack:
    """The stack as CloudFormation describes it; outputs of conditional resources may be missing."""

    name: str
    status: str
    parameters: dict[str, str]
    outputs: dict[str, str]

    @property
    def busy(self) -> bool:
        """Whether an operation is running."""
        return self.status.endswith("_IN_PROGRESS")

    @property
    def model_package(self) -> str:
        """The model package the stack was last told to serve; empty before the first."""
        return self.parameters[MODEL_PARAMETER]


def read(cloudformation: Any, name: str) -> ServingStack:
    """Describe the stack `name`; `ClientError` if there is none."""
    found = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    return ServingStack(
        name=name,
        status=found["StackStatus"],
        parameters={item["ParameterKey"]: item["ParameterValue"] for item in found.get("Parameters", [])},
        outputs={item["OutputKey"]: item["OutputValue"] for item in found.get("Outputs", [])},
    )


def serve(cloudformation: Any, stack: ServingStack, *, model_package: str, role: str, token: str) -> None:
    """Tell the stack to serve `model_package`, changing nothing else; serving it already is success.

    Every other parameter is passed as `UsePreviousValue`, or it would fall back to its default. `role` does the update
    in place of the stack's own, which is an administrator. `token` makes a second call for the same event harmless.
    Raises `StackBusyError` while another update runs.
    """
    others = [
        {"ParameterKey": key, "UsePreviousValue": True}
        for key in sorted(stack.parameters)
        if key != MODEL_PARAMETER
    ]
    try:
        cloudformation.update_stack(
            StackName=stack.name,
            UsePreviousTemplate=True,
            Parameters=[{"ParameterKey": MODEL_PARAMETER, "ParameterValue": model_package}, *others],
            RoleARN=role,
            ClientRequestToken=token,
        )
    except ClientError as error:
        message = error.response["Error"]["Message"]
        if "No updates are to be performed" in message:
            return
        if "_IN_PROGRESS state and can not be updated" in message:
            raise StackBusyError(message) from error
        raise
