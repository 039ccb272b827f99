"""What one section of a stage says about another: sections that are right by themselves, and together cannot work.

Each rule raises `ValueError` with the keys, the reason and the remedy.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from stacks import transform_filter
from stacks.serving_rules import Feature, refusal

if TYPE_CHECKING:
    from stacks.config import StageConfig


def check(stage: StageConfig) -> None:
    """Raise `ValueError` for the first rule that the stage breaks."""
    for rule in (_isolation, _folders, _experiment, _answer, _stream, _band):
        rule(stage)


def _isolation(stage: StageConfig) -> None:
    """An isolated stage lists no option that AWS keeps out of a VPC."""
    for option in stage.options if stage.foundation.isolation else ():
        rules = (
            refusal(getattr(stage, option).option, feature)
            for feature in (Feature.VPC, Feature.NETWORK_ISOLATION)
        )
        if said := " ".join(filter(None, rules)):
            raise ValueError(f"options lists {option}, and foundation.isolation is true: {said}")


def _folders(stage: StageConfig) -> None:
    """Folders of the curated bucket are apart.

    In one another, the next crawl, job or run would take results for data, or they would expire with them.
    """
    folders = {
        f"{section}.{name}": getattr(getattr(stage, section), name)
        for section, names in (
            ("asynchronous", ("input_prefix", "output_prefix", "failure_prefix")),
            ("batch", ("input_prefix", "output_prefix")),
        )
        for name in names
    }
    taken = {
        "the curated table": f"{stage.dataset}/",
        "the stream's predictions": "predictions/",
        "the ETL's reports": "reports/",
        "the quarantine": "quarantine/",
    }
    for (one, folder), (other, within) in itertools.permutations({**taken, **folders}.items(), 2):
        if within.startswith(folder) and {one, other} & folders.keys():
            raise ValueError(
                f"{other} = {within} lies in {one} = {folder}: what is written there would be taken for what belongs "
                "here. Use folders of their own."
            )


def _experiment(stage: StageConfig) -> None:
    """A comparison counts wrong labels (tools/comparison.py)."""
    if "experiment" in stage.options and stage.training.problem_type == "regression":
        raise ValueError(
            "options lists experiment, and training.problem_type is regression: two models are compared by the errors "
            "of their labels, and a regression gives none. Remove it from options, or train a classification."
        )


def _answer(stage: StageConfig) -> None:
    """A batch transform writes columns that the model answers with."""
    if "batch" in stage.options and stage.batch.join_source == "Input":
        transform_filter.check(stage.batch.output_filter, stage.training.problem_type)


def _stream(stage: StageConfig) -> None:
    """The stream can bring as many records as the quality alarm wants before it judges.

    A shard takes 1,000 a second ("Quotas and limits", Amazon Kinesis Data Streams Developer Guide).
    """
    shards, period = stage.ingestion.shard_count, stage.serving.alarms.period_seconds
    most, asked = shards * 1_000 * period, stage.serving.alarms.quality.minimum_predictions
    if stage.ingestion.stream_mode == "PROVISIONED" and asked > most:
        raise ValueError(
            f"serving.alarms.quality.minimum_predictions = {asked}: the stream's {shards} shard(s) take at most {most} "
            f"records in a period of {period} s, so that no mean would ever be judged. Lower it."
        )


def _band(stage: StageConfig) -> None:
    """Some scores lie in the band of the quality alarm, and some do not."""
    band = stage.serving.alarms.quality
    if stage.training.problem_type != "classification":
        return
    if band.maximum_mean_score <= 0 or band.minimum_mean_score >= 1:
        raise ValueError(
            f"serving.alarms.quality: a score is 0 to 1, and the band from {band.minimum_mean_score} to "
            f"{band.maximum_mean_score} holds none: every rollout would be taken back. Move the band."
        )
    if band.minimum_mean_score <= 0 and band.maximum_mean_score >= 1:
        raise ValueError(
            f"serving.alarms.quality: a score is 0 to 1, and so is the band from {band.minimum_mean_score} to "
            f"{band.maximum_mean_score}: the alarm could never go off. Narrow the band."
        )
