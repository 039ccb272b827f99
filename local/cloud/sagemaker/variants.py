"""Which variants go together in an endpoint configuration, and with what: what AWS refuses is refused.

What a serverless endpoint cannot have is told in the words of the table, stacks/serving_rules.py, and the rest in the
API's. Shapes: "CreateEndpointConfig" and "ProductionVariantServerlessConfig" (SageMaker
API Reference).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from local.cloud.sagemaker.store import Record, invalid
from stacks.serving_rules import Feature, Option, refusal

_MEMORY = range(1024, 6145, 1024)  # MB
_OF_INSTANCES = ("InstanceType", "InitialInstanceCount")


def numbered(config: Record) -> Iterator[tuple[str, Record]]:
    """Each variant of a configuration, shadows last, with its place ("ProductionVariants.1")."""
    for kind in ("ProductionVariants", "ShadowProductionVariants"):
        for index, variant in enumerate(config.get(kind, []), 1):
            yield f"{kind}.{index}", variant


def serverless(config: Record) -> bool:
    """Whether an endpoint of this configuration is a serverless one."""
    return any("ServerlessConfig" in variant for _, variant in numbered(config))


def check(config: Record, models: Mapping[str, Record]) -> None:
    """Raise `ApiError` if AWS refuses the configuration; `models` are those that its variants name."""
    shadows = config.get("ShadowProductionVariants", [])
    if shadows and (len(shadows), len(config["ProductionVariants"])) != (1, 1):
        raise invalid(
            "With ShadowProductionVariants, specify one variant for ProductionVariants and one variant for "
            "ShadowProductionVariants."
        )
    if not serverless(config):
        return
    for where, variant in numbered(config):
        if "ServerlessConfig" in variant:
            _check_serverless(where, variant)
    capture = config.get("DataCaptureConfig", {"EnableCapture": False})
    used = {
        Feature.VARIANTS: len(config["ProductionVariants"]) > 1,
        Feature.SHADOW_VARIANT: bool(shadows),
        Feature.DATA_CAPTURE: capture.get("EnableCapture", True),
        Feature.VPC: any("VpcConfig" in model for model in models.values()),
        Feature.NETWORK_ISOLATION: any(model["EnableNetworkIsolation"] for model in models.values()),
    }
    for feature, wanted in used.items():
        if wanted:
            _refuse(Option.SERVERLESS, feature)


def check_weights(weights: Iterable[float]) -> None:
    """Raise `ApiError` if no production variant of an endpoint would have traffic."""
    if not any(weights):
        raise invalid("ProductionVariants with weights that are all 0 are unsupported in the embedded cloud.")


def check_deployment(how: Mapping[str, Any] | None, config: Record) -> None:
    """Raise `ApiError` if the endpoint takes no DeploymentConfig: a serverless one has no guardrails."""
    if how and serverless(config):
        _refuse(Option.SERVERLESS, Feature.ROLLING if "RollingUpdatePolicy" in how else Feature.BLUE_GREEN)


def _check_serverless(where: str, variant: Record) -> None:
    if both := [name for name in _OF_INSTANCES if name in variant]:
        raise invalid(f"{where}: ServerlessConfig and {both[0]} exclude each other.")
    config = variant["ServerlessConfig"]
    if config["MemorySizeInMB"] not in _MEMORY:
        raise invalid(f"{where}: MemorySizeInMB must be one of {', '.join(map(str, _MEMORY))}.")
    most = config["MaxConcurrency"]
    if not 1 <= most <= 200:
        raise invalid(f"{where}: MaxConcurrency must be 1 to 200.")
    if not 0 < config.get("ProvisionedConcurrency", 1) <= most:
        raise invalid(
            f"{where}: ProvisionedConcurrency must be at least 1, and at most the MaxConcurrency of {most}."
        )


def _refuse(option: Option, feature: Feature) -> None:
    if said := refusal(option, feature):
        raise invalid(said)
