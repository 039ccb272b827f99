"""Release: an approval rolls a model out, and every rollout is checked."""

from constructs import Construct

from stacks.base import BaseStack
from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.release.approvals import Approvals
from stacks.release.rollout_check import RolloutCheck


class Release(BaseStack):
    """It updates Serving, so it cannot be part of it, and Serving holds no IAM (Task 3.3: continuous delivery)."""

    def __init__(self, scope: Construct, id: str, *, config: Config, foundation: Foundation) -> None:
        super().__init__(
            scope, id, config=config, description="Approved models to the endpoint, and the check"
        )
        approvals = Approvals(self, "Approvals", config=config, foundation=foundation)
        check = RolloutCheck(self, "Rollouts", config=config, foundation=foundation)
        self.dead_letters = (*approvals.events.dead_letters, *check.events.dead_letters)
