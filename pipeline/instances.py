"""The instance types that SageMaker offers and this pipeline can use: one list for the configuration and the definition.

Synth may not read botocore's lists, so they stand here; a test compares them with "CreateTrainingJob",
"CreateProcessingJob", "CreateModelPackage" and "CreateEndpointConfig" as botocore knows them.
"""

from __future__ import annotations

# Of the families that both jobs can run on, those without local storage: AWS refuses our key for a volume of the
# instance itself (Amazon EC2 User Guide, "Instance store volumes").
JOB_SIZES = {
    "c4": "xlarge 2xlarge 4xlarge 8xlarge",
    "c5": "xlarge 2xlarge 4xlarge 9xlarge 18xlarge",
    "c6i": "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge",
    "c7i": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge",
    "c7i-flex": "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge",
    "c8i": "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge 48xlarge 96xlarge",
    "c8i-flex": "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge",
    "m4": "xlarge 2xlarge 4xlarge 10xlarge 16xlarge",
    "m5": "large xlarge 2xlarge 4xlarge 12xlarge 24xlarge",
    "m6i": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge",
    "m7i": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge",
    "m7i-flex": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge",
    "m8i": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge 48xlarge 96xlarge",
    "m8i-flex": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge",
    "p2": "xlarge 8xlarge 16xlarge",
    "p3": "2xlarge 8xlarge 16xlarge",
    "r5": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge",
    "r6i": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge",
    "r7i": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge",
    "r8i": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge 48xlarge 96xlarge",
    "r8i-flex": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge",
    "t3": "medium large xlarge 2xlarge",
}

# What every registered model declares, and so what an endpoint may run on: x86, as AWS's XGBoost image; no local
# storage, as above; not burstable (docs/decisions/0085). Larger ones would idle.
REALTIME_TYPES = tuple(
    f"ml.{family}.{size}"
    for family in ("m5", "m6i", "m7i", "c5", "c6i", "c7i")
    for size in ("large", "xlarge", "2xlarge", "4xlarge")
)
# Batch transform has no such c5.
TRANSFORM_TYPES = tuple(name for name in REALTIME_TYPES if name != "ml.c5.large")
