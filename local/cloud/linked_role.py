"""The role with which Application Auto Scaling acts on endpoints: made in IAM on first use, as AWS makes it.

Sources: "Service-linked roles for Application Auto Scaling", "AWS managed policies for Application Auto Scaling"
(AWSApplicationAutoscalingSageMakerEndpointPolicy).
"""

from __future__ import annotations

import json
import threading
from typing import Any

from local.cloud import roles
from local.cloud.extensions import Cloud
from local.cloud.place import ACCOUNT
from local.cloud.protocol import Caller

_SERVICE = "sagemaker.application-autoscaling"
_PRINCIPAL = f"{_SERVICE}.amazonaws.com"
_NAME, _PATH = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint", f"/aws-service-role/{_PRINCIPAL}/"
ARN = f"arn:aws:iam::{ACCOUNT}:role{_PATH}{_NAME}"
_ALLOWED = (
    "sagemaker:DescribeEndpoint",
    "sagemaker:DescribeEndpointConfig",
    "sagemaker:UpdateEndpointWeightsAndCapacities",
    "cloudwatch:DescribeAlarms",
    "cloudwatch:DeleteAlarms",
    "cloudwatch:PutMetricAlarm",
)


class LinkedRole:
    """Clients that act as the role, once it is there."""

    def __init__(self, cloud: Cloud) -> None:
        self._place = cloud.place
        self._lock = threading.Lock()
        self._session: roles.Session | None = None
        self._clients: dict[str, Any] = {}

    def ensure(self, caller: Caller) -> None:
        """Make the role, the first time for the caller, who may have to be allowed to."""
        with self._lock:
            if self._session is not None:
                return
            caller.authorize("iam:CreateServiceLinkedRole", ARN, {"iam:AWSServiceName": _PRINCIPAL})
            iam = self._place.client("iam")
            trust = {"Effect": "Allow", "Principal": {"Service": _PRINCIPAL}, "Action": "sts:AssumeRole"}
            allowed = {"Effect": "Allow", "Action": list(_ALLOWED), "Resource": "*"}
            iam.create_role(Path=_PATH, RoleName=_NAME, AssumeRolePolicyDocument=_document(trust))
            iam.put_role_policy(RoleName=_NAME, PolicyName="Managed", PolicyDocument=_document(allowed))
            iam.close()
            self._session = roles.assume(ARN, _SERVICE, "Autoscaling")

    def client(self, service: str) -> Any:
        """A client of a service as this role; `ensure` was called before."""
        with self._lock:
            if self._session is None:
                raise roles.AccessDeniedError(f"{ARN} does not exist.")
            if service not in self._clients:
                self._clients[service] = self._session.client(service, self._place)
            return self._clients[service]


def _document(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
