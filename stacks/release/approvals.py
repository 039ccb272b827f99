"""An approval in the model registry starts the rollout."""

from constructs import Construct

from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.release.ordered_events import OrderedEvents
from stacks.release.release_function import ReleaseFunction

# The service name under which lambdas/release_model.py counts, and what it counts.
SERVICE, METRIC = "release-model", "ReleasesStarted"


class Approvals(Construct):
    """Approved versions of this one group, handled in order (Task 3.3: continuous delivery; Task 2.3: registry).

    The event is a hint, not an order: the function looks at what is approved and in service when it runs.
    """

    def __init__(self, scope: Construct, id: str, *, config: Config, foundation: Foundation) -> None:
        super().__init__(scope, id)
        group = foundation.model_package_group_name
        release = ReleaseFunction(self, "Release", service=SERVICE, config=config, foundation=foundation)
        release.may_describe(
            "model-package", f"{group}/*", "DescribeModelPackage", because="Every version of this one group."
        )
        self.events = OrderedEvents(
            self,
            "Events",
            pattern={
                "source": ["aws.sagemaker"],
                "detail-type": ["SageMaker Model Package State Change"],
                "detail": {"ModelPackageGroupName": [group], "ModelApprovalStatus": ["Approved"]},
            },
            function=release.function,
            longest_wait_seconds=config.serving.rollout.timeout_seconds,
            key=foundation.key,
        )
