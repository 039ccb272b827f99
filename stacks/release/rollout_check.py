"""After a rollout: is what the stack believes in service really in service."""

from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk
from constructs import Construct

from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.release.counted import CountedAlarm
from stacks.release.followers import follower_stack_names, longest_rollout_seconds
from stacks.release.ordered_events import OrderedEvents
from stacks.release.release_function import ReleaseFunction

# The service name under which lambdas/check_rollout.py counts, and what it counts.
SERVICE, METRIC = "check-rollout", "RolloutDifference"
# An update that could not be rolled back ends, too: nobody would be told.
ENDED = ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED"]
# After a failure a follower waits for the next end of Serving: told again at once, it would fail for ever.
FOLLOWED = ["CREATE_COMPLETE", "UPDATE_COMPLETE"]


class RolloutCheck(Construct):
    """Every completion of Serving's stack is checked, and a difference raises an alarm (Tasks 3.3 and 4.2).

    SageMaker rolls back by itself and CloudFormation may not notice; only the endpoint itself can tell. The model version
    is the one parameter that the check may put right. What arrived is passed on to the stacks that follow, and they are
    compared, too.
    """

    def __init__(self, scope: Construct, id: str, *, config: Config, foundation: Foundation) -> None:
        super().__init__(scope, id)
        serving, followers = config.stack_name("Serving"), follower_stack_names(config)
        check = ReleaseFunction(
            self,
            "Check",
            service=SERVICE,
            config=config,
            foundation=foundation,
            updates=[serving, *followers],
        )
        check.may_read_events_of(serving)
        check.may_compare(serving, endpoints=config.deployed_endpoints)
        ended: list[Mapping[str, Any]] = [_ends([check.stack_prefix(serving)], ENDED)]
        if followers:
            ended.append(_ends([check.stack_prefix(name) for name in followers], FOLLOWED))
        self.events = OrderedEvents(
            self,
            "Events",
            pattern={
                "source": ["aws.cloudformation"],
                "detail-type": ["CloudFormation Stack Status Change"],
                "detail": {"$or": ended} if followers else ended[0],
            },
            function=check.function,
            longest_wait_seconds=longest_rollout_seconds(config),
            key=foundation.key,
        )
        CountedAlarm(
            self,
            "Difference",
            config=config,
            service=SERVICE,
            metric=METRIC,
            every=cdk.Duration.minutes(5),
            keeps=False,
            meaning="An endpoint does not run what its stack believes. If Serving's runs another version, the stack is told to "
            'serve that one; where nobody puts it right, a message with the result "differs" says what to do',
        )


def _ends(prefixes: list[str], statuses: list[str]) -> Mapping[str, Any]:
    return {
        "stack-id": [{"prefix": prefix} for prefix in prefixes],
        "status-details": {"status": statuses},
    }
