"""A crawler: folders of a bucket become tables of the catalog."""

import json
from collections.abc import Sequence
from typing import Literal

from aws_cdk import aws_glue as glue
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.foundation.stack import Foundation
from stacks.processing.network_connection import NetworkConnection
from stacks.processing.role import GlueRole

# What a crawler calls on tables and partitions ("Crawler prerequisites": AWSGlueServiceRole, or a scoped down version).
CATALOG_ACTIONS = [
    "glue:BatchCreatePartition",
    "glue:BatchDeletePartition",
    "glue:BatchGetPartition",
    "glue:BatchUpdatePartition",
    "glue:CreatePartition",
    "glue:CreateTable",
    "glue:GetDatabase",
    "glue:GetPartition",
    "glue:GetPartitions",
    "glue:GetTable",
    "glue:GetTables",
    "glue:UpdatePartition",
    "glue:UpdateTable",
]


class Crawler(Construct):
    """One table a folder, named by us: `prefix` and the folder's name (Tasks 1.1 and 1.3: catalog, schema discovery).

    Left to itself a crawler makes a table of every file that looks a little different. So compatible schemas are
    combined, and more tables than folders are an error, not a surprise. Every crawl reads everything: an incremental
    crawl looks at new folders only, and uploads arrive in an old one.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        foundation: Foundation,
        bucket: s3.IBucket,
        folders: Sequence[str],
        prefix: Literal["raw_", "curated_"],
        connection: NetworkConnection | None,
    ) -> None:
        super().__init__(scope, id)
        role = GlueRole(
            self,
            "Role",
            description=f"Crawls {', '.join(folders)}",
            key=foundation.key,
            connection=connection,
        )
        role.use_security_configuration(foundation.key)
        role.read_folders(bucket, *folders)
        role.use_tables(foundation.database_name, f"{prefix}*", actions=CATALOG_ACTIONS)
        crawler = glue.CfnCrawler(
            self,
            "Crawler",
            role=role.role_arn,
            database_name=foundation.database_name,
            table_prefix=prefix,
            targets=glue.CfnCrawler.TargetsProperty(
                s3_targets=[
                    glue.CfnCrawler.S3TargetProperty(
                        path=bucket.s3_url_for_object(f"{folder}/"),
                        # Spark's staging folder and its success marker are no data.
                        exclusions=["_*", "_*/**"],
                        connection_name=connection.connection.connection_name if connection else None,
                    )
                    for folder in folders
                ]
            ),
            configuration=json.dumps(
                {
                    "Version": 1.0,
                    "CrawlerOutput": {
                        "Partitions": {"AddOrUpdateBehavior": "InheritFromTable"},
                        "Tables": {"TableThreshold": len(folders)},
                    },
                    "Grouping": {"TableGroupingPolicy": "CombineCompatibleSchemas"},
                }
            ),
            recrawl_policy=glue.CfnCrawler.RecrawlPolicyProperty(recrawl_behavior="CRAWL_EVERYTHING"),
            # A folder that is empty for a day (raw data expires) must not take its table away.
            schema_change_policy=glue.CfnCrawler.SchemaChangePolicyProperty(
                update_behavior="UPDATE_IN_DATABASE", delete_behavior="LOG"
            ),
            crawler_security_configuration=foundation.security_configuration.security_configuration_name,
        )
        crawler.node.add_dependency(role)
        self.name = crawler.ref
