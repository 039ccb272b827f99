"""Our Lambda defaults, once: what every function here is given, so that no function has to repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.acknowledge import acknowledge
from stacks.config import FoundationConfig
from stacks.lambda_code import lambda_code
from stacks.log_group import LogGroup
from stacks.network_interfaces import let_lambda_attach

if TYPE_CHECKING:
    from stacks.foundation.network import Network

# AWS publishes Powertools for AWS Lambda (Python) as a public layer ("Installation", its documentation at
# docs.aws.amazon.com/powertools/python, November 2026). Commercial regions only: other partitions use other accounts.
POWERTOOLS_ACCOUNT = "017000801446"
POWERTOOLS_LAYER = "AWSLambdaPowertoolsPythonV3-python313-arm64:37"


@dataclass(frozen=True, kw_only=True)
class FunctionSettings:
    """What differs between functions and stages: time in seconds, memory in MiB, and how logs are kept."""

    timeout_seconds: int
    memory_mib: int
    foundation: FoundationConfig
    key: kms.IKey
    network: Network | None


class PythonFunction(Construct):
    """A function with its own role, its own encrypted log group, traces and Powertools (Task 3.1, Task 4.1, Task 4.3).

    The role may write to that one log group: the managed policy would let it write to every group of the account.
    No concurrency is reserved: a stream's shards and a FIFO queue's group already bound it, and a reservation fails in
    a new account, whose whole quota is ten.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        handler: str,
        settings: FunctionSettings,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(scope, id)
        stack = cdk.Stack.of(self)
        log_group = LogGroup(self, "Logs", settings=settings.foundation, key=settings.key)
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[log_group.attr_arn]
            )
        )
        network = settings.network
        if network:
            let_lambda_attach(role)
        layer = stack.format_arn(
            service="lambda",
            account=POWERTOOLS_ACCOUNT,
            resource="layer",
            resource_name=POWERTOOLS_LAYER,
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
        self.function = lambda_.Function(
            self,
            "Function",
            code=lambda_code(),
            handler=handler,
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            layers=[lambda_.LayerVersion.from_layer_version_arn(self, "Powertools", layer)],
            timeout=cdk.Duration.seconds(settings.timeout_seconds),
            memory_size=settings.memory_mib,
            log_group=logs.LogGroup.from_log_group_name(self, "LogGroup", log_group.ref),
            logging_format=lambda_.LoggingFormat.JSON,
            tracing=lambda_.Tracing.ACTIVE,
            role=role,
            environment=dict(environment),
            vpc=network.vpc if network else None,
            vpc_subnets=ec2.SubnetSelection(subnets=network.subnets) if network else None,
            security_groups=[network.security_group] if network else None,
        )
        acknowledge(
            role,
            "IAM5[Resource::*]",
            "X-Ray's put actions have no resource type; Lambda checks the VPC interface actions against *.",
        )
        acknowledge(
            self.function,
            "L1",
            "Python 3.13 is supported until June 2029 (Lambda Developer Guide, Runtimes); moving is a tested change.",
        )
