"""A registered model version as SageMaker serves it, whatever the option."""

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.foundation.stack import Foundation


class ServedModel(sagemaker.CfnModel):
    """The approved package with its role, in the stage's network and without one of its own (Tasks 3.1 and 4.3).

    The package names image and artifact, so nothing of them is repeated here and a version is served as it was approved.
    Network and isolation are the model's, not the endpoint's ("CreateModel", SageMaker API Reference).
    SageMaker fetches image and model; the container itself reaches no network (docs/decisions/0042), unless the option
    takes no isolation: `isolated` is false for a serverless endpoint.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        foundation: Foundation,
        package: str,
        condition: cdk.CfnCondition,
        isolated: bool = True,
    ) -> None:
        network = foundation.network
        super().__init__(
            scope,
            id,
            execution_role_arn=foundation.model_role.role_arn,
            enable_network_isolation=isolated,
            primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(model_package_name=package),
            vpc_config=sagemaker.CfnModel.VpcConfigProperty(
                security_group_ids=[network.security_group.security_group_id],
                subnets=[subnet.subnet_id for subnet in network.subnets],
            )
            if network
            else None,
        )
        replaced_by_a_rollout(self, condition)


def replaced_by_a_rollout(resource: cdk.CfnResource, condition: cdk.CfnCondition) -> None:
    """It exists only while there is a model; what an update replaces stays, what goes with its stack is deleted.

    AWS forbids deleting a configuration that an endpoint may still run, as after an automatic rollback, and a model or
    configuration costs nothing (docs/decisions/0043).
    """
    resource.cfn_options.condition = condition
    resource.cfn_options.update_replace_policy = cdk.CfnDeletionPolicy.RETAIN
    resource.cfn_options.deletion_policy = cdk.CfnDeletionPolicy.DELETE
