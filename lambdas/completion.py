"""The end of an update of Serving, or of a stack that follows it, as CloudFormation's own event tells it."""

from dataclasses import dataclass
from typing import Any

from lambdas import serving_stack

# How the token begins of the update that tells the stack what is in service.
REPAIR = "repair-"


@dataclass(frozen=True)
class Completion:
    """A "CloudFormation Stack Status Change" event: the end of an update of Serving, or of a stack that follows it.

    `package` is the version that the update was to release, as its token says; None if it was no release.
    """

    id: str
    time: str
    stack_id: str
    status: str
    token: str
    package: str | None

    @classmethod
    def parse(cls, event: dict[str, Any], group: str) -> "Completion":
        """Read the event. A stack and its model packages share partition, region and account."""
        detail = event["detail"]
        stack_id, token = detail["stack-id"], detail.get("client-request-token") or ""
        version = serving_stack.released_version(token)
        _, partition, _, region, account, *_ = stack_id.split(":")
        package = f"arn:{partition}:sagemaker:{region}:{account}:model-package/{group}/{version}"
        status = detail["status-details"]["status"]
        return cls(event["id"], event["time"], stack_id, status, token, package if version else None)

    @property
    def failed_repair(self) -> bool:
        """Whether the stack was to be told what is in service, and the update failed: the next would, too."""
        return self.token.startswith(REPAIR) and self.status != "UPDATE_COMPLETE"
