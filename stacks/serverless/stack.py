"""Serverless: the approved version behind an endpoint without instances."""

from constructs import Construct

from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.option_stack import OptionStack
from stacks.serverless.serverless_endpoint import ServerlessEndpoint
from stacks.serving_rules import Option


class Serverless(OptionStack):
    """For traffic that comes now and then, and can wait for a cold start (Task 3.1: which endpoint)."""

    def __init__(self, scope: Construct, id: str, *, config: Config, foundation: Foundation) -> None:
        super().__init__(scope, id, config=config, description="The serverless endpoint")
        serving = ServerlessEndpoint(
            self,
            "Endpoint",
            config=config,
            foundation=foundation,
            package=self.parameter.value_as_string,
            condition=self.parameter.has_model,
        )
        self.tell(config.endpoint_names[Option.SERVERLESS], serving.config)
