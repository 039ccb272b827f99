"""Training: the SageMaker Pipeline, from the curated table to a registered model."""

from constructs import Construct

from stacks.base import BaseStack
from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.permissions import read_objects
from stacks.pipeline_code import sourcedir_archive
from stacks.processing.stack import Processing
from stacks.training.definition import definition, placeholders
from stacks.training.image import XGBoostImage
from stacks.training.job_role import JOBS, JobRole
from stacks.training.pipeline import Pipeline
from stacks.training.starts import Starts


class Training(BaseStack):
    """The pipeline, the roles of its jobs, and what starts it."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: Config,
        foundation: Foundation,
        processing: Processing,
    ) -> None:
        super().__init__(scope, id, config=config, description="Curated table to a registered model")
        image = XGBoostImage(self, "Image")
        code = sourcedir_archive(self)
        body = definition(config)
        roles = {
            step: JobRole(self, step, foundation=foundation, image=image, code=code)
            for step in JOBS
            if f"{step}RoleArn" in placeholders(body)  # a linear model is its own baseline
        }
        read_objects(roles["Prepare"], foundation.curated, f"{config.dataset}/")
        pipeline = Pipeline(
            self,
            "Pipeline",
            config=config,
            foundation=foundation,
            image=image,
            code=code,
            definition_body=body,
            job_roles=roles,
        )
        starts = Starts(
            self,
            "Starts",
            settings=config.training,
            pipeline=pipeline,
            curated_crawler_name=processing.curated_crawler_name,
            key=foundation.key,
        )
        self.pipeline_name, self.pipeline_arn = pipeline.name, pipeline.arn
        self.start_rule_name = starts.rule.ref
        self.dead_letters = starts.dead_letters
