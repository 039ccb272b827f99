"""The gate: no row reaches the table unless the raw data pass their rules."""

import aws_cdk as cdk
from aws_cdk import aws_glue as glue
from constructs import Construct

from pipeline.rules import dqdl
from pipeline.schema import load
from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.permissions import allow
from stacks.pipeline_code import glue_code, script
from stacks.processing.network_connection import NetworkConnection
from stacks.processing.role import GlueRole

# One table for each way in; a folder without data has nothing to judge, and the job leaves it out.
FOLDERS = ("batch", "stream")
TABLES = tuple(f"raw_{folder}" for folder in FOLDERS)


class QualityGate(Construct):
    """A ruleset from the schema, and the job that evaluates it and fails with it (Task 1.3: data quality).

    A Glue trigger starts jobs and crawlers, not evaluation runs, so a job starts the run, waits and judges. The
    ruleset names no table: the crawler makes it later than the stack. Two roles: the job may start a run, the run
    may read the data. Why it is no Python shell job: docs/decisions/0031.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: Config,
        foundation: Foundation,
        connection: NetworkConnection | None,
    ) -> None:
        super().__init__(scope, id)
        stack, database = cdk.Stack.of(self), foundation.database_name
        settings = config.processing
        # L1: the L2 demands a target table. Nothing but name and table would replace the ruleset, so the name is ours.
        self.ruleset_name = config.prefix
        ruleset = glue.CfnDataQualityRuleset(
            self,
            "Ruleset",
            name=self.ruleset_name,
            ruleset=dqdl(load(config.dataset), settings.maximum_quarantined_percent),
            description=f"What a row of {config.dataset} must be, from its schema",
        )
        ruleset_arn = stack.format_arn(
            service="glue", resource="dataQualityRuleset", resource_name=self.ruleset_name
        )

        run_role = self._role("RunRole", "Evaluates data quality rules", foundation, connection=None)
        run_role.read_folders(foundation.raw, *FOLDERS)
        run_role.use_tables(
            database, *TABLES, actions=["glue:GetDatabase", "glue:GetPartitions", "glue:GetTable"]
        )
        allow(
            run_role,
            [
                "glue:GetDataQualityResult",
                "glue:GetDataQualityRuleset",
                "glue:GetDataQualityRulesetEvaluationRun",
                "glue:PublishDataQuality",
            ],
            [ruleset_arn],
        )
        # The evaluation's own libraries ("Troubleshooting data quality errors", AWS Glue User Guide).
        libraries = f"arn:{stack.partition}:s3:::aws-glue-ml-data-quality-assets-{stack.region}/*"
        allow(run_role, ["s3:GetObject"], [libraries], because="AWS's bucket: it names the objects.")

        entry = script(self, "Script", "quality.py")
        role = self._role("Role", "Starts and judges the evaluation", foundation, connection=connection)
        role.use_security_configuration(foundation.key)
        role.read_assets(entry)
        role.use_tables(database, *TABLES, actions=["glue:GetTable"])
        allow(role, ["s3:ListBucket"], [foundation.raw.bucket_arn])
        allow(
            role,
            [
                "glue:GetDataQualityResult",
                "glue:GetDataQualityRulesetEvaluationRun",
                "glue:StartDataQualityRulesetEvaluationRun",
            ],
            [ruleset_arn],
        )
        allow(
            role,
            ["iam:PassRole"],
            [run_role.role_arn],
            conditions={"StringEquals": {"iam:PassedToService": "glue.amazonaws.com"}},
        )
        job = glue.PySparkEtlJob(
            self,
            "Job",
            description="Evaluates the ruleset; a failed rule stops the workflow",
            role=role.without_policy_updates(),
            script=glue_code(entry),
            glue_version=glue.GlueVersion.V5_1,
            worker_configuration=glue.WorkerConfiguration(
                worker_type=glue.WorkerType.G_1X, number_of_workers=2
            ),
            default_arguments={
                "--database": database,
                "--tables": ",".join(TABLES),
                "--ruleset": self.ruleset_name,
                "--role": run_role.role_arn,
            },
            continuous_logging=glue.ContinuousLoggingProps(enabled=True),
            timeout=cdk.Duration.minutes(settings.job_timeout_minutes),
            # A rule that failed fails again; bad data does not get better by a retry.
            max_retries=0,
            max_concurrent_runs=1,
            security_configuration=foundation.security_configuration,
            connections=[connection.connection] if connection else None,
        )
        job.node.add_dependency(role, run_role, ruleset)
        self.job = job
        self.name = job.job_name

    def _role(
        self, id: str, description: str, foundation: Foundation, *, connection: NetworkConnection | None
    ) -> GlueRole:
        return GlueRole(self, id, description=description, key=foundation.key, connection=connection)
