"""What every option's stack shares: its parameter, its condition, and the names by which others find it."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from stacks.base import BaseStack
from stacks.config import Config
from stacks.serving.model_parameter import ModelParameter


class OptionStack(BaseStack):
    """A way to serve the approved version beside the real-time endpoint; deployed where a stage's `options` list it.

    It deploys before any model exists, as Serving does, and follows it: after a rollout that went well, the stack is
    told the same version. There is no IAM here: the roles are Foundation's.
    """

    def __init__(self, scope: Construct, id: str, *, config: Config, description: str) -> None:
        super().__init__(scope, id, config=config, description=description)
        self.parameter = ModelParameter(self)
        self.template_options.metadata = self.parameter.metadata
        # Where something that should have started waits to be looked at: Monitoring watches it.
        self.dead_letters: Sequence[sqs.IQueue] = ()

    def tell(
        self,
        endpoint_name: str,
        endpoint_config: sagemaker.CfnEndpointConfig,
        condition: cdk.CfnCondition | None = None,
    ) -> None:
        """The outputs of an option with an endpoint: what to invoke, and what this stack believes it runs."""
        cdk.CfnOutput(self, "EndpointName", value=endpoint_name, description="What to invoke")
        cdk.CfnOutput(
            self,
            "EndpointConfigName",
            value=endpoint_config.attr_endpoint_config_name,
            description="What this stack believes the endpoint runs",
            condition=condition or self.parameter.has_model,
        )
