"""The stacks that serve the same model in another way, once Serving has proved it."""

from stacks.config import Config


def follower_stack_names(config: Config) -> list[str]:
    """The CloudFormation names of the stage's option stacks: each is told the version that a rollout of Serving accepted."""
    return [config.stack_name(option) for option in config.options]


def longest_rollout_seconds(config: Config) -> int:
    """After how many seconds SageMaker gives up, at the latest, the rollout of Serving or of an option that has one."""
    rollouts = [config.serving.rollout]
    if "asynchronous" in config.options:
        rollouts.append(config.asynchronous.rollout)
    return max(rollout.timeout_seconds for rollout in rollouts)
