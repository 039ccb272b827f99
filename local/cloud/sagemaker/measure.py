"""The metrics of a request, as "Amazon SageMaker AI metrics in Amazon CloudWatch" (Developer Guide) names them."""

from __future__ import annotations

import http

from local.cloud import seams
from local.cloud.sagemaker.fleet import Fleet
from local.cloud.sagemaker.router import Reply

Values = dict[str, tuple[float, str]]

# "Alarms and logs for tracking metrics from serverless endpoints" names these.
_SERVERLESS = {
    *("Invocations", "Invocation4XXErrors", "Invocation5XXErrors"),
    *("ModelLatency", "OverheadLatency", "ModelSetupTime"),
}


def measure(reply: Reply, overhead: float) -> None:
    """A request that an instance was asked; `overhead` are the seconds around the model's."""
    status = reply.answer.status if reply.answer else http.HTTPStatus.INTERNAL_SERVER_ERROR
    publish(
        reply.fleet,
        {
            **_counts(reply.fleet, status),
            "ModelLatency": (reply.seconds * 1e6, "Microseconds"),
            "OverheadLatency": (max(0.0, overhead) * 1e6, "Microseconds"),
        },
    )


def setup(fleet: Fleet, seconds: float) -> None:
    """How long a new copy of a serverless variant took to start."""
    publish(fleet, {"ModelSetupTime": (seconds * 1e6, "Microseconds")})


def unanswered(fleet: Fleet) -> None:
    """A request that found no healthy instance: a server error without a model's latency."""
    publish(fleet, _counts(fleet, http.HTTPStatus.SERVICE_UNAVAILABLE))


def _counts(fleet: Fleet, status: int) -> Values:
    return {
        "Invocations": (1.0, "None"),
        "InvocationsPerInstance": (1 / max(1, fleet.capacity), "None"),
        "Invocation4XXErrors": (float(status // 100 == 4), "None"),
        "Invocation5XXErrors": (float(status // 100 == 5), "None"),
        "InvocationModelErrors": (float(status // 100 != 2), "None"),
    }


def publish(fleet: Fleet, values: Values) -> None:
    """Once for the variant, which is what alarms watch, and once for the fleet.

    The second set, with the endpoint configuration's name, is documented by "Auto-Rollback Configuration and
    Monitoring" only (docs/decisions/0135).
    """
    variant = {"EndpointName": fleet.variant.endpoint, "VariantName": fleet.variant.name}
    known: list[dict[str, str]] = [variant, {**variant, "EndpointConfigName": fleet.variant.config}]
    if fleet.on_demand:
        known, values = [variant], {name: values[name] for name in values if name in _SERVERLESS}
    for name, (value, unit) in values.items():
        for dimensions in known:
            seams.cloudwatch.record_metric("AWS/SageMaker", name, value, unit, dimensions)


def of_endpoint(name: str, values: Values) -> None:
    """Metrics of a queue: the endpoint is their only dimension."""
    for metric, (value, unit) in values.items():
        seams.cloudwatch.record_metric("AWS/SageMaker", metric, value, unit, {"EndpointName": name})
