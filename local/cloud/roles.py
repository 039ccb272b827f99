"""Acting as a role: what a service does for us it does with a session of the role that it was given.

A job's process gets the session's keys in its environment; a call made inside the server is authorized as that role.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
from collections.abc import Mapping
from typing import Any

from local.cloud import seams
from local.cloud.place import ACCOUNT, REGION, Place

_ROLE = re.compile(r"arn:aws:iam::\d{12}:role/(?:.*/)?([^/]+)")


class AccessDeniedError(Exception):
    """IAM refused an action; the text is AWS's."""


@dataclasses.dataclass(frozen=True)
class Session:
    """Temporary credentials of a role, as `AssumeRole` gives them to a service."""

    role_arn: str
    access_key_id: str
    secret_access_key: str
    token: str

    def environment(self) -> dict[str, str]:
        """The variables in which any AWS client finds them."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_SESSION_TOKEN": self.token,
        }

    def client(self, service: str, place: Place) -> Any:
        """A boto3 client that signs with them and talks to this cloud."""
        return place.client(service, (self.access_key_id, self.secret_access_key, self.token))

    def authorize(self, action: str, resource: str, context: Mapping[str, Any] | None = None) -> None:
        """Check an action that happens inside the server; raises `AccessDeniedError` with AWS's message."""
        authorize(self.access_key_id, action, resource, context)


def assume(role_arn: str, service: str, session_name: str) -> Session:
    """A session of a role for a service such as "glue"; `AccessDeniedError` unless the role exists and trusts it."""
    name = check_trust(role_arn, service)
    session = Session(
        role_arn,
        "ASIA" + secrets.token_hex(8).upper(),
        secrets.token_urlsafe(30),
        secrets.token_urlsafe(48),
    )
    seams.sts.register_session(
        session.access_key_id,
        {
            "Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{session_name}",
            "UserId": f"AROA{secrets.token_hex(8).upper()}:{session_name}",
            "SecretAccessKey": session.secret_access_key,
            "SessionToken": session.token,
            "AccountId": ACCOUNT,
        },
    )
    return session


def check_trust(role_arn: str, service: str) -> str:
    """The name of a role that exists and trusts a service such as "glue"; `AccessDeniedError` if it does not."""
    found, principal = _ROLE.fullmatch(role_arn), f"{service}.amazonaws.com"
    role = seams.iam._roles.get_scoped(ACCOUNT, None, found[1]) if found else None
    context = {"aws:sourceaccount": ACCOUNT}
    if service == "firehose":  # "Allow Firehose to assume an IAM role": the account is also the external id
        context["sts:externalid"] = ACCOUNT
    if (
        found is None
        or role is None
        or role["Arn"] != role_arn
        or not allows(role["AssumeRolePolicyDocument"], principal, "sts:AssumeRole", role_arn, context)
    ):
        raise AccessDeniedError(
            f"Could not assume role {role_arn}. Please ensure that the role exists and allows principal '{principal}' "
            "to assume the role."
        )
    return found[1]


def allows(
    policy: object, principal: str, action: str, resource: str, service_context: Mapping[str, str]
) -> bool:
    """Whether a resource's own policy, or a role's trust policy, lets an AWS service act under these condition keys."""
    context = seams.iam_evaluator.EvalContext(
        principal_arn="*",
        principal_type="Service",
        principal_account="",
        action=action,
        resource_arn=resource,
        region=REGION,
        secure_transport=True,
        service_context=dict(service_context),
    )
    result = seams.iam_evaluator.evaluate_resource_policy(policy, context, service=principal)
    return bool(result.decision == "Allow")


def authorize(
    access_key_id: str, action: str, resource: str, context: Mapping[str, Any] | None = None
) -> None:
    """Raise `AccessDeniedError` unless the key's principal may do `action` on `resource` under these condition keys."""
    service = action.split(":", maxsplit=1)[0]
    denied = seams.iam_evaluator.enforce(
        access_key_id, action, service, REGION, resource_arn=resource, service_context=dict(context or {})
    )
    if denied is not None:
        who = seams.iam_evaluator.resolve_principal(access_key_id, ACCOUNT)
        raise AccessDeniedError(
            seams.iam_actions.identity_denial_message(
                action,
                getattr(who, "arn", access_key_id),
                resource,
                explicit_deny=getattr(denied, "decision", "") == "Deny",
            )
        )
