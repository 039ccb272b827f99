"""What the endpoint runs beside what the stack believes, and what a person can do about a difference.

After an automatic rollback an endpoint is `InService` on its old configuration, and the stack may still have succeeded.
"""

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from lambdas import serving_stack
from lambdas.serving_stack import ServingStack

UNSETTLED = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})


class UnsettledError(Exception):
    """What will run is not decided yet, or cannot be put right yet. Try again later."""


class AlarmsRingError(UnsettledError):
    """`names` are in ALARM, and would take an update back at once."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"alarms that roll back are in ALARM: {', '.join(names)}")
        self.names = names


@dataclass(frozen=True)
class Endpoint:
    """What runs: its configuration, and the reason SageMaker gives for its last failure."""

    config: str
    reason: str


@dataclass(frozen=True)
class Difference:
    """The stack believes in one endpoint configuration, the endpoint runs another (None: there is no endpoint).

    `package` is the model package that runs; empty if none does, or if the model was made from none.
    """

    stack: ServingStack
    endpoint_name: str
    believed: str
    endpoint: Endpoint | None
    package: str

    @property
    def of_versions(self) -> bool:
        """Whether another version runs, which the stack can be told to serve."""
        return self.package not in {"", self.stack.model_package}

    def remedy(self, putting_right: str = "") -> str:
        """What differs and what to do; `putting_right` is why telling the stack the running version failed, if it did.

        A deployment of the same template changes nothing: CloudFormation compares it with what it believes.
        """
        if self.endpoint is None:
            return (
                f"there is no endpoint {self.endpoint_name}, and {self.stack.name} believes that it runs {self.believed}; a "
                "deployment does not make it again. Put it back: make release ARGS=--none, then make release"
            )
        runs = (
            f"the endpoint {self.endpoint_name} runs {self.endpoint.config} ({self.package or 'a model of no known version'}), and {self.stack.name} "
            f"believes that it runs {self.believed} ({self.stack.model_package})"
        )
        if putting_right:
            return (
                f"{runs}. To put the stack right has failed: {putting_right}. Reject what it believes, and the newest "
                f"approved version takes its place: aws sagemaker update-model-package --model-package-arn "
                f"{self.stack.model_package} --model-approval-status Rejected"
            )
        why = self.endpoint.reason or "SageMaker gives no reason"
        return (
            f"{runs}: {why}. Try the change again: aws sagemaker update-endpoint --endpoint-name {self.endpoint_name} "
            f"--endpoint-config-name {self.believed} --retain-deployment-config --retain-all-variant-properties; or take "
            "the change back and deploy Serving"
        )


def find(sagemaker: Any, stack: ServingStack, endpoint_name: str) -> Difference | None:
    """The difference, or None; `UnsettledError` while the endpoint changes. A stack without a model believes nothing."""
    endpoint = look(sagemaker, endpoint_name)
    believed = stack.outputs.get(serving_stack.CONFIG_OUTPUT)
    if not believed or (endpoint and endpoint.config == believed):
        return None
    package = model_package_of(sagemaker, endpoint.config) if endpoint else None
    return Difference(stack, endpoint_name, believed, endpoint, package or "")


def look(sagemaker: Any, name: str) -> Endpoint | None:
    """The endpoint, or None if there is none of that name; `UnsettledError` while it is changing."""
    try:
        found = sagemaker.describe_endpoint(EndpointName=name)
    except ClientError as error:
        if _absent(error):
            return None
        raise
    if found["EndpointStatus"] in UNSETTLED:
        raise UnsettledError(f"endpoint {name} is {found['EndpointStatus']}")
    return Endpoint(found["EndpointConfigName"], found.get("FailureReason", ""))


def ringing(cloudwatch: Any, stack: ServingStack, *, withdrawn: bool = False) -> list[str]:
    """The alarms of `stack` that are in ALARM, if what serves is `withdrawn`: without them it may be replaced.

    Else `AlarmsRingError`, if there is one: they watch the endpoint, and would take any update back at once.
    """
    if not stack.rollback_alarms:
        return []
    found = cloudwatch.describe_alarms(AlarmNames=stack.rollback_alarms, StateValue="ALARM")
    names = [alarm["AlarmName"] for alarm in found["MetricAlarms"]]
    if names and not withdrawn:
        raise AlarmsRingError(names)
    return names


def model_package_of(sagemaker: Any, config: str) -> str | None:
    """The model package behind an endpoint configuration (Serving keeps replaced ones for this).

    None if the model was made from no package, or if the configuration or the model has been deleted by hand.
    """
    try:
        variant = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"][0]
        model = sagemaker.describe_model(ModelName=variant["ModelName"])
    except ClientError as error:
        if _absent(error):
            return None
        raise
    package: str | None = model.get("PrimaryContainer", {}).get("ModelPackageName")
    return package


def _absent(error: ClientError) -> bool:
    """SageMaker has no error of its own for an endpoint, a configuration or a model that does not exist."""
    return "Could not find" in error.response["Error"]["Message"]
