"""The API of Amazon SageMaker: each module adds its operations to one table.

What invokes an endpoint comes by its path, because it carries no target.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote

from local.cloud import protocol, seams
from local.cloud.extensions import Cloud
from local.cloud.sagemaker import jobs, models, pipelines, registry, store, transform, types
from local.cloud.sagemaker.asynchronous import AsyncRuntime
from local.cloud.sagemaker.endpoints import Endpoints
from local.cloud.sagemaker.invoke import InvokeError, Response, Runtime

_RUNTIME = re.compile(r"/endpoints/([^/]+)/(invocations|async-invocations|invocations-response-stream)")
_UNSUPPORTED = {"invocations-response-stream": "InvokeEndpointWithResponseStream"}
_Invoke = Callable[[protocol.Caller, str, Mapping[str, str], bytes], Response]


def install(cloud: Cloud) -> None:
    """Serve the API, and let the tagging API and `aws:ResourceTag` see its resources."""
    records = store.Store()
    endpoints = Endpoints(cloud, records)
    operations: dict[str, protocol.Operation] = {
        **store.operations(records),
        **registry.operations(records),
        **models.operations(cloud, records),
        **endpoints.operations(),
        **jobs.operations(cloud, records),
        **transform.operations(cloud, records),
        **pipelines.operations(cloud, records),
    }
    protocol.register("sagemaker", "SageMaker", operations)
    api = seams.app.SERVICE_HANDLERS["sagemaker"]
    runtimes: dict[str, _Invoke] = {
        "invocations": Runtime(endpoints).invoke,
        "async-invocations": AsyncRuntime(endpoints).invoke,
    }
    seams.service("sagemaker", "SageMaker", _by_path(api, runtimes))
    protocol.OPERATIONS["sagemaker-runtime"] = ["InvokeEndpoint", "InvokeEndpointAsync"]
    types.register(silent=cloud.place.rollback == "silent")
    seams.tagging._COLLECTORS["sagemaker"] = records.tagged
    seams.tagging._RESOURCE_TAG_COLLECTORS["sagemaker"] = records.tagged


def _by_path(api: seams.Handler, runtimes: Mapping[str, _Invoke]) -> seams.Handler:
    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
    ) -> tuple[int, dict[str, str], bytes]:
        found = _RUNTIME.fullmatch(path)
        answer: tuple[int, dict[str, str], bytes]
        if found is None:
            answer = await api(method, path, headers, body, query)
            return answer
        if operation := _UNSUPPORTED.get(found[2]):
            message = f"{operation} is unsupported in the embedded cloud."
            return InvokeError("UnsupportedOperation", 501, message).response()
        caller = protocol.Caller(seams.router.extract_access_key_id(headers, query) or "")
        name = unquote(found[1])
        answer = await seams.concurrency.run_reentrant(
            runtimes[found[2]], caller, name, headers, body, thread_name="sagemaker.InvokeEndpoint"
        )
        return answer

    return handle
