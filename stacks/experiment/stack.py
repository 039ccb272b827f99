"""Experiment: the version in service beside a challenger."""

from typing import cast

import aws_cdk as cdk
from constructs import Construct

from stacks.acknowledge import VALIDATOR, acknowledge
from stacks.config import Config
from stacks.experiment.experiment_endpoint import ExperimentEndpoint
from stacks.foundation.stack import Foundation
from stacks.option_stack import OptionStack
from stacks.serving.model_parameter import PackageParameter, interface
from stacks.serving_rules import Option


class Experiment(OptionStack):
    """It runs while there are two: the champion follows each release, the challenger is set by hand (Task 3.1).

    Once the challenger is released both parameters name one version, and a version is not compared with itself: the
    endpoint goes, and with it what it costs.
    """

    def __init__(self, scope: Construct, id: str, *, config: Config, foundation: Foundation) -> None:
        super().__init__(scope, id, config=config, description="Two models on one endpoint, compared")
        challenger = PackageParameter(
            self,
            "ChallengerPackageArn",
            label="Challenger's package version",
            description="What is compared with the version in service, or empty; the experiment ends when it is released",
        )
        self.template_options.metadata = interface(self.parameter, challenger)
        both = cdk.CfnCondition(
            self,
            "HasBoth",
            expression=cdk.Fn.condition_and(
                # Its Python type lacks a member.
                cast("cdk.ICfnConditionExpression", self.parameter.has_model),
                challenger.given,
                cdk.Fn.condition_not(
                    cdk.Fn.condition_equals(self.parameter.value_as_string, challenger.value_as_string)
                ),
            ),
        )
        acknowledge(
            self,
            "W8003",
            "The validator takes two references for two constants; after a promotion both parameters name one version.",
            of=VALIDATOR,
        )
        serving = ExperimentEndpoint(
            self,
            "Endpoint",
            config=config,
            foundation=foundation,
            champion=self.parameter.value_as_string,
            challenger=challenger.value_as_string,
            condition=both,
        )
        self.tell(config.endpoint_names[Option.AB], serving.config, both)
