"""Amazon SageMaker: registry, models, endpoints, pipelines and jobs, as far as this project calls it.

Each module adds its operations to one table; `InvokeEndpoint` comes by its path, because it carries no target.
"""

from __future__ import annotations

from local.cloud import protocol, seams
from local.cloud.extensions import Cloud
from local.cloud.sagemaker import registry, store


def install(_cloud: Cloud) -> None:
    """Serve the API, and let the tagging API and `aws:ResourceTag` see its resources."""
    records = store.Store()
    operations: dict[str, protocol.Operation] = {
        **store.operations(records),
        **registry.operations(records),
    }
    protocol.register("sagemaker", "SageMaker", operations)
    seams.tagging._COLLECTORS["sagemaker"] = records.tagged
    seams.tagging._RESOURCE_TAG_COLLECTORS["sagemaker"] = records.tagged
