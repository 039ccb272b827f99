"""What every stack shares: a fixed name, the tags, protection where the stage asks for it."""

import aws_cdk as cdk
from constructs import Construct

from stacks.config import Config


class BaseStack(cdk.Stack):
    """An environment-agnostic stack: no account and no region at synth, so anyone can synthesize it."""

    def __init__(self, scope: Construct, id: str, *, config: Config, description: str) -> None:
        super().__init__(
            scope,
            id,
            stack_name=config.stack_name(id),
            description=description,
            termination_protection=config.foundation.termination_protection,
        )
        for key, value in sorted([*config.tags.items(), config.deployment_tag]):
            cdk.Tags.of(self).add(key, value)
