"""An approval in the model registry starts the rollout; a rejection of what serves takes it out."""

import aws_cdk as cdk
from constructs import Construct

from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.permissions import allow
from stacks.release.counted import CountedAlarm
from stacks.release.ordered_events import OrderedEvents
from stacks.release.release_function import ReleaseFunction

# The service name under which lambdas/release_model.py counts, and what it counts.
SERVICE, METRIC = "release-model", "ServingUnapproved"


class Approvals(Construct):
    """Decisions about versions of this one group, handled in order (Task 3.3: continuous delivery; Task 2.3: registry).

    The event is a hint, not an order: the function looks at what is approved and in service when it runs. The rule is
    the first lock against a loop: what the functions write beside a version is no decision. AWS documents no event for
    a deleted version, so what serves is looked at once an hour, too, and so is what waits for an alarm that rings.
    """

    def __init__(self, scope: Construct, id: str, *, config: Config, foundation: Foundation) -> None:
        super().__init__(scope, id)
        group = foundation.model_package_group_name
        release = ReleaseFunction(
            self,
            "Release",
            service=SERVICE,
            config=config,
            foundation=foundation,
            updates=[config.stack_name("Serving")],
        )
        allow(
            release.role,
            ["sagemaker:ListModelPackages"],
            ["*"],
            because="A list, which shows the names and states of versions and nothing of them.",
        )
        release.may_read_events_of(config.stack_name("Serving"))
        release.may_compare(config.stack_name("Serving"), endpoints=[config.endpoint_name])
        fields = "UpdatedModelPackageFields"
        self.events = OrderedEvents(
            self,
            "Events",
            pattern={
                "source": ["aws.sagemaker"],
                "detail-type": ["SageMaker Model Package State Change"],
                "detail": {
                    "ModelPackageGroupName": [group],
                    "ModelApprovalStatus": ["Approved", "Rejected"],
                    # A new version, or one whose status changed.
                    "$or": [{fields: [{"exists": False}]}, {fields: ["ModelApprovalStatus"]}],
                },
            },
            function=release.function,
            longest_wait_seconds=config.serving.rollout.timeout_seconds,
            key=foundation.key,
        )
        self.events.every_hour()
        CountedAlarm(
            self,
            "Unapproved",
            config=config,
            service=SERVICE,
            metric=METRIC,
            every=cdk.Duration.hours(1),
            keeps=True,
            meaning="What serves was rejected or deleted, and nothing approved takes its place: approve a version, or "
            "serve nothing (make release ARGS=--none)",
        )
        cdk.CfnOutput(
            self,
            "QueueUrl",
            value=self.events.queue.queue_url,
            description="Where `make release` asks for a release",
        ).override_logical_id("ApprovalsQueueUrl")
