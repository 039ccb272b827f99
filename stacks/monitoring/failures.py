"""One table: which events need to be told, failures and the results of approvals, and what to say about each."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.config import Config
from stacks.dead_letters import DeadLetters
from stacks.foundation.stack import Foundation
from stacks.ingestion.stack import Ingestion
from stacks.processing.stack import Processing
from stacks.release import results
from stacks.release.followers import follower_stack_names


@dataclass(frozen=True)
class Failure:
    """An event pattern, and the sentence a person reads. `detail` is matched as EventBridge matches."""

    id: str
    meaning: str
    source: str
    detail_type: str
    detail: Mapping[str, Any]


def failures(
    stack: cdk.Stack, *, config: Config, foundation: Foundation, ingestion: Ingestion, processing: Processing
) -> Sequence[Failure]:
    """The table. Sources of the patterns: the services' pages in the "EventBridge Events Reference"."""
    pipeline = _arn(stack, "sagemaker", "pipeline", config.prefix)
    served = [config.stack_name("Serving"), *follower_stack_names(config)]
    by = "client-request-token"
    return (
        Failure(
            "Records",
            "Records were given up after all retries, or could not be archived. They lie, whole, under the object's key.",
            "aws.s3",
            "Object Created",
            {
                "bucket": {"name": [foundation.raw.bucket_name]},
                "object": {"key": [{"prefix": prefix} for prefix in ingestion.failure_prefixes]},
            },
        ),
        Failure(
            "Job",
            "A Glue job failed: see its error log. The quality gate fails when a rule of the ruleset does.",
            "aws.glue",
            "Glue Job State Change",
            {"jobName": processing.job_names, "state": ["FAILED", "TIMEOUT", "ERROR"]},
        ),
        Failure(
            "Crawler",
            "A crawler failed: the catalog may miss new partitions.",
            "aws.glue",
            "Glue Crawler State Change",
            {
                "crawlerName": [processing.raw_crawler_name, processing.curated_crawler_name],
                "state": ["Failed"],
            },
        ),
        Failure(
            "Quality",
            "Raw data broke a data quality rule: the ETL did not run.",
            "aws.glue-dataquality",
            "Data Quality Evaluation Results Available",
            {"state": ["FAILED"], "context": {"databaseName": [foundation.database_name]}},
        ),
        Failure(
            "Training",
            "A pipeline execution failed or was stopped: no new model version. See the failed step's reason.",
            "aws.sagemaker",
            "SageMaker Model Building Pipeline Execution Status Change",
            {
                "pipelineArn": [pipeline],
                "currentPipelineExecutionStatus": ["Failed", "Stopped"],
            },
        ),
        Failure(
            "Endpoint",
            # A rollout that is rolled back stays UPDATING: ROLLING_BACK belongs to changes of weight and capacity
            # ("EndpointStatus" of DescribeEndpoint). What became of a rollout is told by the rows of its result.
            "An endpoint failed.",
            "aws.sagemaker",
            "SageMaker Endpoint State Change",
            {
                "EndpointName": list(config.deployed_endpoints),
                "EndpointStatus": ["FAILED", "OUT_OF_SERVICE", "UPDATE_ROLLBACK_FAILED"],
            },
        ),
        Failure(
            "Rollout",
            "CloudFormation could not update Serving or a stack that follows it, and it was no release: see the stack's "
            "events. From UPDATE_ROLLBACK_FAILED: aws cloudformation continue-update-rollback.",
            "aws.cloudformation",
            "CloudFormation Stack Status Change",
            {
                "stack-id": [
                    {"prefix": f"{_arn(stack, 'cloudformation', 'stack', name)}/"} for name in served
                ],
                "status-details": {
                    "status": ["UPDATE_FAILED", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED"]
                },
                # The end of a release is told by its result.
                "$or": [
                    {by: [{"exists": False}]},
                    {by: [{"anything-but": {"prefix": "release-"}}]},
                ],
            },
        ),
        *_results(config),
        *_batches(config),
        Failure(
            "Alarm",
            "An alarm went off: of an endpoint (errors, latency, odd predictions), of a rollout (an endpoint does not run "
            "what its stack believes), or of what serves (rejected or deleted, and nothing takes its place).",
            "aws.cloudwatch",
            "CloudWatch Alarm State Change",
            {
                "alarmName": [{"prefix": prefix} for prefix in _alarms(config)],
                "state": {"value": ["ALARM"]},
            },
        ),
    )


def _alarms(config: Config) -> Iterator[str]:
    """How the alarms begin that a person has to hear of: not those that scale."""
    yield from (f"{config.stack_name(name)}-" for name in ("Serving", "Release"))
    if "asynchronous" in config.options:
        yield f"{config.stack_name('asynchronous')}-Failures"


def _batches(config: Config) -> Iterator[Failure]:
    """A transform job that the schedule starts: nobody waits for it."""
    if "batch" in config.options:
        yield Failure(
            "Batch",
            "A batch transform job failed: see its log. What it had finished before lies under the output prefix.",
            "aws.sagemaker",
            "SageMaker Transform Job State Change",
            {
                "TransformJobName": [{"prefix": f"{config.prefix}-"}],
                "TransformJobStatus": ["Failed"],
            },
        )


def _results(config: Config) -> Iterator[Failure]:
    """What became of an approval, as the release functions tell it (lambdas/rollout_result.py)."""
    serving = config.stack_name("Serving")
    told = {
        "Released": (["in service"], "A model version is in service."),
        "Refused": (
            ["rolled back", "not released"],
            (
                "A model version was approved and is not in service: what served before serves on. When the reason is "
                "gone, reject the version and approve it again."
            ),
        ),
        "Waiting": (
            ["waiting"],
            (
                "A model version is approved, and waits for a rollback alarm that rings to become quiet: the reason says "
                "what to do."
            ),
        ),
        "Withdrawn": (["withdrawn"], "The version in service is approved no longer."),
        "Differs": (
            ["differs"],
            (
                "An endpoint does not run what its stack believes, and nobody puts it right: the reason says what runs and "
                "what to do."
            ),
        ),
        "Stuck": (
            ["stuck"],
            (
                "The release of a model version could not be undone, and Serving takes no other. When the reason is gone: "
                f"aws cloudformation continue-update-rollback --stack-name {serving}."
            ),
        ),
    }
    for name, (words, meaning) in told.items():
        source, detail_type = results.result_source(config), results.DETAIL_TYPE
        yield Failure(name, meaning, source, detail_type, {"result": words})


def _arn(stack: cdk.Stack, service: str, resource: str, name: str) -> str:
    return stack.format_arn(service=service, resource=resource, resource_name=name)


class FailureRules(Construct):
    """Failures that are events, not metrics, told as a sentence (Tasks 3.3 and 4.2).

    The table stands here and not with what fails: one page shows what is watched. A metric would need a threshold and
    a period; an event says at once what failed. L1 rules, because the L2's topic target would open the key to every
    account's EventBridge.
    """

    def __init__(
        self, scope: Construct, id: str, *, table: Sequence[Failure], topic: sns.ITopic, key: kms.IKey
    ) -> None:
        super().__init__(scope, id)
        self.dead_letters = DeadLetters(self, "DeadLetters", key=key)
        for failure in table:
            rule = events.CfnRule(
                self,
                failure.id,
                description=failure.meaning,
                event_pattern={
                    "source": [failure.source],
                    "detail-type": [failure.detail_type],
                    "detail": failure.detail,
                },
                targets=[
                    events.CfnRule.TargetProperty(
                        id="Topic",
                        arn=topic.topic_arn,
                        dead_letter_config=events.CfnRule.DeadLetterConfigProperty(
                            arn=self.dead_letters.queue_arn
                        ),
                        input_transformer=events.CfnRule.InputTransformerProperty(
                            input_paths_map={"time": "$.time", "detail": "$.detail"},
                            input_template=json.dumps(f"{failure.meaning}\n\n<time>\n<detail>"),
                        ),
                    )
                ],
            )
            self.dead_letters.accept_from(rule)
