"""The Glue Data Catalog of this app, and how Glue encrypts what its jobs write."""

import aws_cdk as cdk
from aws_cdk import aws_glue as glue
from aws_cdk import aws_kms as kms
from constructs import Construct

from stacks.config import Config
from stacks.removal_policy import removal_policy


class Catalog(Construct):
    """A database for the crawlers to fill, and one security configuration for all jobs (Tasks 1.1 and 4.3).

    Without a security configuration a Glue job writes its logs and bookmarks unencrypted, whatever the buckets do
    ("Encrypting data written by AWS Glue").
    """

    def __init__(self, scope: Construct, id: str, *, config: Config, key: kms.IKey) -> None:
        super().__init__(scope, id)
        # The catalog allows lower case and underscores, which SQL needs no quotes for.
        self.database_name = config.prefix.replace("-", "_")
        glue.Database(
            self,
            "Database",
            database_name=self.database_name,
            removal_policy=removal_policy(config.foundation),
        )
        self.security_configuration = glue.SecurityConfiguration(
            self,
            "SecurityConfiguration",
            security_configuration_name=config.prefix,
            s3_encryption=glue.S3Encryption.kms(key),
            cloud_watch_encryption=glue.CloudWatchEncryption.kms(key),
            job_bookmarks_encryption=glue.JobBookmarksEncryption.client_side_kms(key),
        )
        # It holds nothing, and its name is fixed: kept (the library's default), it would stop the next deployment.
        self.security_configuration.apply_removal_policy(cdk.RemovalPolicy.DESTROY)
