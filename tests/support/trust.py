"""A role's trust policy: which services may act as it."""

import json
from collections.abc import Mapping

Condition = Mapping[str, Mapping[str, str]]


def trust(*services: str, condition: Condition | None = None, account: str = "") -> str:
    """`trust("glue", "events")`, and the users of an account, if given: the document of `CreateRole`."""
    principal: dict[str, object] = {"Service": [f"{service}.amazonaws.com" for service in services]}
    if account:
        principal["AWS"] = account
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    if condition:
        statement["Condition"] = condition
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
