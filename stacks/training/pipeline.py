"""The SageMaker Pipeline: a committed definition, filled by CloudFormation."""

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.config import Config, ConfigError
from stacks.foundation.stack import Foundation
from stacks.training.definition import REBUILD, placeholders
from stacks.training.image import XGBoostImage
from stacks.training.job_role import JobRole
from stacks.training.pipeline_role import PipelineRole


class Pipeline(Construct):
    """Prepare → train → evaluate → condition → register, or fail with a reason (Tasks 2.2, 2.3 and 3.3).

    The SageMaker SDK wrote the definition once, offline; `Fn::Sub` puts in what only a deployment knows. So the
    template shows the whole pipeline, and a synth needs neither the SDK nor an account.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: Config,
        foundation: Foundation,
        image: XGBoostImage,
        code: cdk.FileAssetLocation,
        definition_body: str,
        job_roles: Mapping[str, JobRole],
    ) -> None:
        super().__init__(scope, id)
        role = PipelineRole(
            self,
            "Role",
            foundation=foundation,
            job_roles=[*job_roles.values(), foundation.model_role],
        )
        values = {
            **{f"{step}RoleArn": role.role_arn for step, role in job_roles.items()},
            "ModelRoleArn": foundation.model_role.role_arn,
            "ImageUri": image.uri,
            "CodeUri": f"s3://{code.bucket_name}/{code.object_key}",
            "CuratedUri": foundation.curated.s3_url_for_object(config.dataset),
            "ArtifactsUri": foundation.artifacts.s3_url_for_object("pipeline"),
            "KmsKeyArn": foundation.key.key_arn,
            "ModelPackageGroupName": foundation.model_package_group_name,
        }
        if foundation.network:
            ids = [subnet.subnet_id for subnet in foundation.network.subnets]
            # The placeholder stands between quotes, as one item of a list: the quotes between the ids are ours.
            values["SubnetIds"] = cdk.Fn.join('","', ids)
            values["SecurityGroupId"] = foundation.network.security_group.security_group_id
        if strangers := sorted(placeholders(definition_body) ^ values.keys()):
            raise ConfigError(
                f"pipeline/definitions: the placeholders {', '.join(strangers)} are not those of {__name__}. {REBUILD}."
            )
        self.name = config.prefix
        self.arn = cdk.Stack.of(self).format_arn(
            service="sagemaker", resource="pipeline", resource_name=self.name
        )
        self.pipeline = sagemaker.CfnPipeline(
            self,
            "Pipeline",
            pipeline_name=self.name,
            pipeline_display_name=self.name,
            pipeline_description=f"{config.training.estimator} {config.training.problem_type} on {config.dataset}",
            pipeline_definition={"PipelineDefinitionBody": cdk.Fn.sub(definition_body, values)},
            role_arn=role.role_arn,
        )
        # SageMaker checks the roles when it takes the definition: their policies have to be there first.
        self.pipeline.node.add_dependency(role, *job_roles.values())
