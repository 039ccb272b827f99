"""The Spark job: raw flights in, one clean table out."""

import aws_cdk as cdk
from aws_cdk import aws_glue as glue
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.pipeline_code import glue_code, script
from stacks.processing.network_connection import NetworkConnection
from stacks.processing.role import GlueRole


class CurateJob(Construct):
    """Dedupe, validate, join, write Parquet by month: `pipeline/spark/curate.py` as it is (Tasks 1.1, 1.2 and 1.3).

    The script is plain Spark with a parameter for every place, so the same file runs on EMR and on a laptop. It may
    read three folders and write three, and a bookmark is not needed: it reads all raw data and publishes at once.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: Config,
        foundation: Foundation,
        package: s3_assets.Asset,
        connection: NetworkConnection | None,
    ) -> None:
        super().__init__(scope, id)
        settings, name = config.processing, config.dataset
        entry = script(self, "Script", "spark/curate.py")
        role = GlueRole(
            self, "Role", description="Curates raw data", key=foundation.key, connection=connection
        )
        role.use_security_configuration(foundation.key)
        role.read_assets(entry, package)
        role.read_folders(foundation.raw, "batch", "stream", "reference")
        role.write_folders(foundation.curated, name, f"quarantine/{name}", f"reports/{name}")
        job = glue.PySparkEtlJob(
            self,
            "Job",
            description="Raw data → curated Parquet, quarantine and report",
            # The role is complete: an L2 grant would add wildcard actions to it.
            role=role.without_policy_updates(),
            script=glue_code(entry),
            extra_python_files=[glue_code(package)],
            glue_version=glue.GlueVersion.V5_1,
            worker_configuration=glue.WorkerConfiguration(
                worker_type=glue.WorkerType[settings.worker_type],
                number_of_workers=settings.number_of_workers,
            ),
            default_arguments={
                "--schema": name,
                "--batch": foundation.raw.s3_url_for_object("batch"),
                "--stream": foundation.raw.s3_url_for_object("stream"),
                "--reference": foundation.raw.s3_url_for_object("reference"),
                "--curated": foundation.curated.s3_url_for_object(name),
                "--quarantine": foundation.curated.s3_url_for_object(f"quarantine/{name}"),
                "--report": foundation.curated.s3_url_for_object(f"reports/{name}/report.json"),
            },
            continuous_logging=glue.ContinuousLoggingProps(enabled=True),
            timeout=cdk.Duration.minutes(settings.job_timeout_minutes),
            max_retries=settings.job_max_retries,
            # Two runs at once would publish over each other.
            max_concurrent_runs=1,
            security_configuration=foundation.security_configuration,
            connections=[connection.connection] if connection else None,
        )
        job.node.add_dependency(role)
        self.job = job
        self.name = job.job_name
