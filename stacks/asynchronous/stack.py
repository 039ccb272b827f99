"""Asynchronous: the approved version behind a queue."""

from constructs import Construct

from stacks.asynchronous.async_endpoint import AsyncEndpoint
from stacks.asynchronous.backlog_scaling import BacklogScaling
from stacks.asynchronous.failure_alarm import FailureAlarm
from stacks.asynchronous.results import Results
from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.option_stack import OptionStack
from stacks.serving.endpoint_config import VARIANT
from stacks.serving_rules import Option


class Asynchronous(OptionStack):
    """For requests that are large, slow, or rare, and whose caller does not wait (Task 3.1: which endpoint)."""

    def __init__(self, scope: Construct, id: str, *, config: Config, foundation: Foundation) -> None:
        super().__init__(
            scope, id, config=config, description="The asynchronous endpoint, its topics and scaling"
        )
        settings, name = config.asynchronous, config.endpoint_names[Option.ASYNCHRONOUS]
        results = Results(self, "Results", config=config, key=foundation.key)
        alarm = FailureAlarm(
            self, "Failures", endpoint_name=name, variant_name=VARIANT, settings=settings.alarms
        )
        serving = AsyncEndpoint(
            self,
            "Endpoint",
            config=config,
            foundation=foundation,
            parameter=self.parameter,
            results=results,
            alarm=alarm,
        )
        scaling = BacklogScaling(
            self,
            "Scaling",
            endpoint_name=name,
            variant_name=VARIANT,
            settings=settings,
            condition=self.parameter.has_model,
        )
        # Only a variant that exists can be registered.
        scaling.node.add_dependency(serving.endpoint)
        self.tell(name, serving.config)
