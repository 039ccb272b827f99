"""What no client sends by itself is refused in the words of AWS's JSON protocol."""

import json
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session

from local.cloud.place import REGION, ROOT_KEYS, Place


def post(cloud: Place, service: str, target: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """Status and answer of a signed request."""
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
    request = AWSRequest("POST", f"{cloud.url}/", headers=headers, data=body)
    SigV4Auth(Credentials(*ROOT_KEYS), service, REGION).add_auth(request)
    answer = URLLib3Session(verify=str(cloud.certificate)).send(request.prepare())
    return answer.status_code, json.loads(answer.content)


@pytest.mark.parametrize(
    ("service", "target"), [("sagemaker", "SageMaker.ListModels"), ("glue", "AWSGlue.StartCrawler")]
)
@pytest.mark.parametrize("body", [b"{", b"[]"])
def test_a_body_that_is_no_json_object_is_the_callers_error(
    cloud: Place, service: str, target: str, body: bytes
) -> None:
    status, told = post(cloud, service, target, body)
    assert (status, told["__type"]) == (400, "SerializationException")
