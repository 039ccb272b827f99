"""The stacks that serve the same model in another way, once Serving has proved it."""

from stacks.config import Config


def follower_stack_names(config: Config) -> list[str]:
    """The CloudFormation names of the stage's option stacks: each is told the version that a rollout of Serving accepted."""
    return [config.stack_name(option) for option in config.options]
