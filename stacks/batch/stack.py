"""Batch: the approved version over whole files."""

import aws_cdk as cdk
from constructs import Construct

from stacks.batch.scheduled_transform import ScheduledTransform
from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.option_stack import OptionStack
from stacks.serving.served_model import ServedModel


class Batch(OptionStack):
    """For predictions that nobody waits for: instances start for the job, and end with it (Task 3.1)."""

    def __init__(self, scope: Construct, id: str, *, config: Config, foundation: Foundation) -> None:
        super().__init__(scope, id, config=config, description="Batch transform by schedule")
        has_model = self.parameter.has_model
        model = ServedModel(
            self,
            "Model",
            foundation=foundation,
            package=self.parameter.value_as_string,
            condition=has_model,
        )
        transform = ScheduledTransform(
            self, "Transform", config=config, foundation=foundation, model=model, condition=has_model
        )
        self.dead_letters = (transform.dead_letters,)
        cdk.CfnOutput(
            self,
            "ModelName",
            value=model.attr_model_name,
            description="What the next job predicts with",
            condition=has_model,
        )
