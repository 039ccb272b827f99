"""What combines with what: one table, an inference option by a feature of it.

The configuration is checked against it at synth, and the documents show it. The embedded cloud refuses by it what a
serverless endpoint cannot be combined with; what else its API refuses (a rolling update of several variants in
local/cloud/guardrails.py, variants beside a shadow in local/cloud/sagemaker/variants.py) it tells as AWS's own API does.
This is data and imports nothing, so that all of them may read it. Sources are titles of the Amazon SageMaker AI Developer
Guide, or of the API Reference where they say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Option(StrEnum):
    """A way to serve a model."""

    REAL_TIME = "real-time"
    AB = "real-time, A/B"
    SHADOW = "real-time + shadow"
    SERVERLESS = "serverless"
    ASYNCHRONOUS = "asynchronous"
    BATCH = "batch transform"


class Feature(StrEnum):
    """What an option may be combined with."""

    BLUE_GREEN = "canary, linear or all at once, with bake and alarms"
    ROLLING = "rolling update"
    VPC = "VPC"
    NETWORK_ISOLATION = "network isolation"
    DATA_CAPTURE = "data capture"
    AUTOSCALING = "autoscaling of instances"
    VARIANTS = "several production variants"
    SHADOW_VARIANT = "shadow variant"
    VOLUME_KEY = "key for the volumes"


@dataclass(frozen=True)
class Rule:
    """Whether they combine; if not, who refuses, why, and what to do instead. A condition stands in `why`, too."""

    allowed: bool
    why: str
    source: str
    remedy: str = ""
    refused_by: Literal["AWS", "us"] | None = None


def _yes(why: str, source: str) -> Rule:
    return Rule(True, why, source)


def _aws(why: str, remedy: str, source: str) -> Rule:
    return Rule(False, why, source, remedy, "AWS")


def _ours(why: str, remedy: str, source: str) -> Rule:
    return Rule(False, why, source, remedy, "us")


_GUARDRAILS, _EXCLUSIONS = "Deployment guardrails", "Deployment guardrails: Exclusions"
_SERVERLESS = "Serverless Inference: Feature exclusions"
_SHADOW = "Shadow tests: Exclusions"
_SCALING = "Update endpoints that use auto scaling"
_CREATE_CONFIG = "CreateEndpointConfig, API Reference"
_TRANSFORM = "CreateTransformJob, API Reference"
_MODEL = "CreateModel, API Reference"
_CAPTURE = "Data capture"

# What an asynchronous endpoint that may have scaled so far down cannot do (stacks/rollout_config.py refuses it).
_SPLIT = "a fleet that scales to one cannot be split: minimum_instances of 2 or more, or ALL_AT_ONCE"
_GUARDED = _yes("the variants of the new configuration have the names of the old", _EXCLUSIONS)
_IN_MODEL = _yes("stated on the model", _MODEL)
_CAPTURED = _yes("requests and answers, at the sampling percentage", _CAPTURE)
_SCALED = _yes("instances of a size that is not burstable; nothing scales during an update", _SCALING)
_KEYED = _yes("on instances without local storage", _CREATE_CONFIG)
_COMPARED_NOT_PROVED = _ours(
    "the champion was proved where it serves, and a challenger is judged by the comparison, not taken back",
    "Remove it; serving.rollout is how the winner takes over",
    _GUARDRAILS,
)
_FIXED_FLEET = _ours(
    "AWS scales each variant by itself, and then sizes of fleets would be compared, not models",
    "Set experiment.instance_count, which both have",
    _SCALING,
)
_NAMES_STAY = "a rollout needs the names of the variants before it, and a comparison comes and goes"
_SHADOW_STANDS_ALONE = "an endpoint with a shadow variant has exactly one production variant"
_NO_ENDPOINT = _aws(
    "a transform job is no endpoint: it starts instances, ends them, and is not updated",
    "Remove it; the next job takes the newest model",
    _TRANSFORM,
)

OPTIONS: Mapping[Option, Mapping[Feature, Rule]] = {
    Option.REAL_TIME: {
        Feature.BLUE_GREEN: _GUARDED,
        Feature.ROLLING: _yes("one production variant", _EXCLUSIONS),
        Feature.VPC: _IN_MODEL,
        Feature.NETWORK_ISOLATION: _IN_MODEL,
        Feature.DATA_CAPTURE: _CAPTURED,
        Feature.AUTOSCALING: _SCALED,
        Feature.VARIANTS: _ours(
            f"AWS takes up to 10, but {_NAMES_STAY}", "List the option experiment", _EXCLUSIONS
        ),
        Feature.SHADOW_VARIANT: _ours(
            f"AWS takes one, but {_NAMES_STAY}",
            "List the option experiment with kind SHADOW",
            _EXCLUSIONS,
        ),
        Feature.VOLUME_KEY: _KEYED,
    },
    Option.AB: {
        Feature.BLUE_GREEN: _COMPARED_NOT_PROVED,
        Feature.ROLLING: _aws(
            "a rolling update takes an endpoint with one production variant only",
            "Remove it; serving.rollout is how the winner takes over",
            _EXCLUSIONS,
        ),
        Feature.VPC: _IN_MODEL,
        Feature.NETWORK_ISOLATION: _IN_MODEL,
        Feature.DATA_CAPTURE: _yes("each variant's requests and answers", _CAPTURE),
        Feature.AUTOSCALING: _FIXED_FLEET,
        Feature.VARIANTS: _yes("up to 10; a request goes to one of them by weight", _CREATE_CONFIG),
        Feature.SHADOW_VARIANT: _aws(
            _SHADOW_STANDS_ALONE,
            "Remove mirrored_percent and state challenger_percent, or set experiment.kind to SHADOW",
            _CREATE_CONFIG,
        ),
        Feature.VOLUME_KEY: _KEYED,
    },
    Option.SHADOW: {
        Feature.BLUE_GREEN: _COMPARED_NOT_PROVED,
        Feature.ROLLING: _ours(
            "a rolling update takes one variant, and the guide does not say whether a shadow counts",
            "Remove it; serving.rollout is how the winner takes over",
            _EXCLUSIONS,
        ),
        Feature.VPC: _IN_MODEL,
        Feature.NETWORK_ISOLATION: _IN_MODEL,
        Feature.DATA_CAPTURE: _yes("both variants", _CAPTURE),
        Feature.AUTOSCALING: _FIXED_FLEET,
        Feature.VARIANTS: _aws(
            _SHADOW_STANDS_ALONE,
            "Remove challenger_percent and state mirrored_percent, or set experiment.kind to AB",
            _CREATE_CONFIG,
        ),
        Feature.SHADOW_VARIANT: _yes("exactly one", _CREATE_CONFIG),
        Feature.VOLUME_KEY: _KEYED,
    },
    Option.SERVERLESS: {
        Feature.BLUE_GREEN: _aws(
            "guardrails are for real-time and asynchronous endpoints only: a serverless one is updated at once, and no "
            "alarm takes the update back",
            "Prove the version on the real-time endpoint first, as a release does; remove the rollout here",
            _GUARDRAILS,
        ),
        Feature.ROLLING: _aws(
            "a rolling update is for real-time and asynchronous endpoints only",
            "Prove the version on the real-time endpoint first, as a release does; remove the rollout here",
            _EXCLUSIONS,
        ),
        Feature.VPC: _aws(
            "a serverless endpoint joins no VPC",
            "Serve this stage by another option, or set foundation.isolation to false",
            _SERVERLESS,
        ),
        Feature.NETWORK_ISOLATION: _aws(
            "the container of a serverless endpoint cannot be cut off from the network",
            "Serve this stage by another option, or set foundation.isolation to false",
            _SERVERLESS,
        ),
        Feature.DATA_CAPTURE: _aws(
            "a serverless endpoint captures nothing, so nothing can monitor it",
            "Remove it, or use the real-time endpoint",
            _SERVERLESS,
        ),
        Feature.AUTOSCALING: _aws(
            "there are no instances: SageMaker runs up to maximum_concurrency copies, and only provisioned concurrency "
            "can be scaled",
            "Set maximum_concurrency and provisioned_concurrency instead",
            "Automatically scale Provisioned Concurrency for a serverless endpoint",
        ),
        Feature.VARIANTS: _aws(
            "a serverless endpoint has one variant",
            "List the option experiment for a comparison",
            _SERVERLESS,
        ),
        Feature.SHADOW_VARIANT: _aws(
            "no shadow beside a serverless variant", "List the option experiment with kind SHADOW", _SHADOW
        ),
        Feature.VOLUME_KEY: _yes("it encrypts the copy of the image", "Create a serverless endpoint"),
    },
    Option.ASYNCHRONOUS: {
        Feature.BLUE_GREEN: _yes(f"as for real-time endpoints; {_SPLIT}", _GUARDRAILS),
        Feature.ROLLING: _yes(f"one variant; {_SPLIT}", _EXCLUSIONS),
        Feature.VPC: _IN_MODEL,
        Feature.NETWORK_ISOLATION: _IN_MODEL,
        Feature.DATA_CAPTURE: _ours(
            "the guide speaks of real-time endpoints and batch jobs, and requests and answers lie in S3 anyway",
            "Read input_prefix and output_prefix",
            _CAPTURE,
        ),
        Feature.AUTOSCALING: _yes(
            "on the backlog, down to minimum_instances, which may be none",
            "Autoscale an asynchronous endpoint",
        ),
        Feature.VARIANTS: _ours(
            "not documented for asynchronous endpoints, which have one queue",
            "List the option experiment for a comparison",
            "Asynchronous inference",
        ),
        Feature.SHADOW_VARIANT: _aws(
            "no shadow beside an asynchronous variant",
            "List the option experiment with kind SHADOW",
            _SHADOW,
        ),
        Feature.VOLUME_KEY: _KEYED,
    },
    Option.BATCH: {
        Feature.BLUE_GREEN: _NO_ENDPOINT,
        Feature.ROLLING: _NO_ENDPOINT,
        Feature.VPC: _IN_MODEL,
        Feature.NETWORK_ISOLATION: _IN_MODEL,
        Feature.DATA_CAPTURE: _ours(
            "AWS captures a job's records if the job asks for it, and its records and answers lie in S3 anyway",
            "Read input_prefix and output_prefix",
            "BatchDataCaptureConfig, API Reference",
        ),
        Feature.AUTOSCALING: _NO_ENDPOINT,
        Feature.VARIANTS: _NO_ENDPOINT,
        Feature.SHADOW_VARIANT: _NO_ENDPOINT,
        Feature.VOLUME_KEY: _yes("VolumeKmsKeyId, on instances without local storage", _TRANSFORM),
    },
}


def refusal(option: Option, feature: Feature) -> str | None:
    """None if they combine; else "<why>. <remedy> (<source>)." with who refuses in front."""
    rule = OPTIONS[option][feature]
    if rule.allowed:
        return None
    who = "AWS refuses it" if rule.refused_by == "AWS" else "of no use here"
    return f'{option.value} with {feature.value}: {who}: {rule.why}. {rule.remedy} ("{rule.source}").'
