"""What an endpoint configuration may say for asynchronous inference, and what an update may make of its endpoint."""

from __future__ import annotations

from local.cloud.sagemaker.store import Record, invalid
from local.runner import storage
from stacks.serving_rules import Feature, Option, refusal


def check(config: Record) -> None:
    """Raise for what an asynchronous endpoint cannot be combined with, or where its answers cannot lie."""
    wanted = config.get("AsyncInferenceConfig")
    if wanted is None:
        return
    asked = {
        Feature.DATA_CAPTURE: config.get("DataCaptureConfig", {}).get("EnableCapture", False),
        Feature.VARIANTS: len(config["ProductionVariants"]) > 1,
        Feature.SHADOW_VARIANT: "ShadowProductionVariants" in config,
    }
    for feature, present in asked.items():
        if present and (said := refusal(Option.ASYNCHRONOUS, feature)):
            raise invalid(said)
    output = wanted["OutputConfig"]
    if "S3OutputPath" not in output:
        raise invalid(
            "AsyncInferenceConfig without OutputConfig.S3OutputPath is unsupported in the embedded cloud."
        )
    for name in ("S3OutputPath", "S3FailurePath"):
        try:
            storage.split(output.get(name, "s3://bucket/key"))
        except storage.StorageError as error:
            raise invalid(f"OutputConfig.{name}: {error}") from None


def check_update(asynchronous: bool, config: Record) -> None:  # noqa: FBT001 - what the endpoint is
    """Raise if an update would change how the endpoint is asked; AWS does not say what it does then."""
    if asynchronous != ("AsyncInferenceConfig" in config):
        raise invalid(
            "An update between an asynchronous and another endpoint is unsupported in the embedded cloud: make a new one."
        )
