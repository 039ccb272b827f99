"""Crawl raw → quality → curate → crawl curated."""

from aws_cdk import aws_glue as glue
from constructs import Construct

from stacks.config import ProcessingConfig
from stacks.processing.crawler import Crawler
from stacks.processing.curate_job import CurateJob
from stacks.processing.quality_gate import QualityGate

Action = glue.CfnTrigger.ActionProperty
Condition = glue.CfnTrigger.ConditionProperty


class Workflow(Construct):
    """Each step starts when the one before it has succeeded, so a failure stops the chain (Task 3.3: orchestration).

    AWS permits one starting trigger a workflow, and only an EVENT trigger hears EventBridge; so `start_on_upload`
    decides between EVENT and ON_DEMAND (`aws glue start-workflow-run`). The choice is part of the construct's id:
    CloudFormation makes a replacement before it removes the original, and two starting triggers in one workflow
    would be refused. L1 triggers: the L2's add an event batch to every conditional trigger.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: ProcessingConfig,
        raw_crawler: Crawler,
        quality: QualityGate,
        curate: CurateJob,
        curated_crawler: Crawler,
    ) -> None:
        super().__init__(scope, id)
        start = "OnUpload" if settings.start_on_upload else "OnDemand"
        self.workflow = glue.Workflow(
            self,
            start,
            description="Crawl raw, check its quality, curate, crawl curated",
            # The curate job replaces the table: a second run would wait for nothing and publish over the first.
            max_concurrent_runs=1,
        )
        first = Action(crawler_name=raw_crawler.name)
        if settings.start_on_upload:
            batch = glue.CfnTrigger.EventBatchingConditionProperty(
                batch_size=settings.upload_batch_size, batch_window=settings.upload_batch_window_seconds
            )
            self._trigger("Start", "EVENT", first, event_batching_condition=batch)
        else:
            self._trigger("Start", "ON_DEMAND", first)
        self._then(
            "Check",
            Condition(crawler_name=raw_crawler.name, crawl_state="SUCCEEDED", logical_operator="EQUALS"),
            Action(job_name=quality.name),
        )
        self._then("Curate", _succeeded(quality.name), Action(job_name=curate.name))
        self._then("Catalog", _succeeded(curate.name), Action(crawler_name=curated_crawler.name))

    def _then(
        self,
        id: str,
        condition: glue.CfnTrigger.ConditionProperty,
        action: glue.CfnTrigger.ActionProperty,
    ) -> None:
        predicate = glue.CfnTrigger.PredicateProperty(conditions=[condition])
        # A conditional trigger sleeps until it is started; an event trigger cannot be started, it listens at once.
        self._trigger(id, "CONDITIONAL", action, predicate=predicate, start_on_creation=True)

    def _trigger(
        self, id: str, type: str, action: glue.CfnTrigger.ActionProperty, **properties: object
    ) -> None:
        glue.CfnTrigger(
            self.workflow,
            id,
            type=type,
            workflow_name=self.workflow.workflow_name,
            actions=[action],
            **properties,  # type: ignore[arg-type]
        )


def _succeeded(job_name: str) -> glue.CfnTrigger.ConditionProperty:
    return Condition(job_name=job_name, state="SUCCEEDED", logical_operator="EQUALS")
