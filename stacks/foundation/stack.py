"""Foundation: buckets, key, catalog, registry, lasting roles, and the network where a stage asks for isolation."""

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.base import BaseStack
from stacks.config import Config
from stacks.foundation.bucket import ArtifactsBucket, CuratedBucket, LogsBucket, RawBucket
from stacks.foundation.catalog import Catalog
from stacks.foundation.key import DataKey
from stacks.foundation.model_role import ModelRole
from stacks.foundation.network import Network
from stacks.foundation.serving_update_role import ServingUpdateRole
from stacks.foundation.transform_role import TransformRole
from stacks.removal_policy import removal_policy


class Foundation(BaseStack):
    """All state of the app. Every other stack can be destroyed and deployed again without losing a byte."""

    def __init__(self, scope: Construct, id: str, *, config: Config) -> None:
        super().__init__(
            scope, id, config=config, description="State: key, buckets, catalog, registry, roles"
        )
        settings = config.foundation
        self.key = DataKey(self, "Key", config=config)
        self.logs = LogsBucket(self, "Logs", settings=settings)
        self.raw = RawBucket(self, "Raw", key=self.key, logs=self.logs, settings=settings)
        self.curated = CuratedBucket(self, "Curated", key=self.key, logs=self.logs, config=config)
        self.artifacts = ArtifactsBucket(self, "Artifacts", key=self.key, logs=self.logs, settings=settings)

        catalog = Catalog(self, "Catalog", config=config, key=self.key)
        self.database_name = catalog.database_name
        self.security_configuration = catalog.security_configuration

        self.model_package_group_name = config.prefix
        models = sagemaker.CfnModelPackageGroup(
            self,
            "Models",
            model_package_group_name=self.model_package_group_name,
            model_package_group_description="Every version that passed the quality gate, with its metrics",
        )
        models.apply_removal_policy(removal_policy(settings))

        self.network = Network(self, "Network", config=config, logs=self.logs) if settings.isolation else None
        self.model_role = ModelRole(
            self,
            "ModelRole",
            config=config,
            artifacts=self.artifacts,
            curated=self.curated,
            network=self.network,
        )
        self.transform_role = (
            TransformRole(self, "TransformRole", config=config, key=self.key)
            if "batch" in config.options
            else None
        )
        self.serving_update_role = ServingUpdateRole(
            self,
            "ServingUpdateRole",
            config=config,
            model_role=self.model_role,
            transform_role=self.transform_role,
            key=self.key,
        )
        cdk.CfnOutput(
            self, "RawBucketName", value=self.raw.bucket_name, description="Upload CSV files to batch/"
        )
