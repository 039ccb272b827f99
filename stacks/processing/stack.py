"""Processing: a Glue workflow from raw files to a validated, catalogued table."""

from constructs import Construct

from pipeline.schema import load
from stacks.acknowledge import acknowledge
from stacks.base import BaseStack
from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.pipeline_code import spark_package
from stacks.processing.crawler import Crawler
from stacks.processing.curate_job import CurateJob
from stacks.processing.network_connection import NetworkConnection
from stacks.processing.quality_gate import QualityGate
from stacks.processing.upload_rule import UploadRule
from stacks.processing.workflow import Workflow


class Processing(BaseStack):
    """Crawlers, quality gate, Spark job and the workflow that runs them in order."""

    def __init__(self, scope: Construct, id: str, *, config: Config, foundation: Foundation) -> None:
        super().__init__(scope, id, config=config, description="Raw data to a validated, catalogued table")
        connection = (
            NetworkConnection(self, "Network", network=foundation.network) if foundation.network else None
        )
        package = spark_package(self)
        tables = [f"reference/{join.table}" for join in load(config.dataset).joins]
        raw_crawler = Crawler(
            self,
            "RawCrawler",
            foundation=foundation,
            bucket=foundation.raw,
            folders=["batch", "stream", *tables],
            prefix="raw_",
            connection=connection,
        )
        curated_crawler = Crawler(
            self,
            "CuratedCrawler",
            foundation=foundation,
            bucket=foundation.curated,
            folders=[config.dataset],
            prefix="curated_",
            connection=connection,
        )
        quality = QualityGate(
            self,
            "QualityGate",
            config=config,
            foundation=foundation,
            connection=connection,
        )
        curate = CurateJob(
            self, "Curate", config=config, foundation=foundation, package=package, connection=connection
        )
        workflow = Workflow(
            self,
            "Workflow",
            settings=config.processing,
            raw_crawler=raw_crawler,
            quality=quality,
            curate=curate,
            curated_crawler=curated_crawler,
        )
        upload = UploadRule(
            self,
            "Upload",
            enabled=config.processing.start_on_upload,
            raw=foundation.raw,
            workflow=workflow.workflow,
            key=foundation.key,
        )
        for rule in ("GL1", "GL3"):
            acknowledge(
                self,
                rule,
                "Foundation's security configuration encrypts logs and bookmarks; the rule sees one stack.",
            )
        self.workflow_name = workflow.workflow.workflow_name
        self.job_names, self.curate_job_name = [quality.name, curate.name], curate.name
        self.raw_crawler_name = raw_crawler.name
        self.curated_crawler_name = curated_crawler.name
        self.upload_rule_name = upload.rule_name
        self.dead_letters = upload.dead_letters
