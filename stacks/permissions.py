"""Permissions: exact actions on exact resources, and beside every wildcard the reason for it."""

from collections.abc import Mapping, Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import IConstruct

from stacks.acknowledge import acknowledge


def allow(
    role: iam.IRole,
    actions: Sequence[str],
    resources: Sequence[str],
    *,
    because: str = "",
    conditions: Mapping[str, Mapping[str, object]] | None = None,
) -> None:
    """Let `role` do `actions` on `resources`; `because` says why a resource of them has to hold a wildcard."""
    role.add_to_principal_policy(
        iam.PolicyStatement(actions=list(actions), resources=list(resources), conditions=conditions)
    )
    for resource in resources:
        if "*" in resource and because:
            acknowledge(role, f"IAM5[Resource::{_as_reported(role, resource)}]", because)


def read_objects(role: iam.IRole, bucket: s3.IBucket, *prefixes: str) -> None:
    """Let `role` list the bucket, and read objects whose keys start with a prefix, such as "stream/"."""
    allow(role, ["s3:ListBucket"], [bucket.bucket_arn])
    allow(
        role,
        ["s3:GetObject"],
        [bucket.arn_for_objects(f"{prefix}*") for prefix in prefixes],
        because="Objects are named at run time; the role reads these prefixes only.",
    )
    if bucket.encryption_key:
        bucket.encryption_key.grant(role, "kms:Decrypt")


def write_objects(role: iam.IRole, bucket: s3.IBucket, *prefixes: str) -> None:
    """Let `role` create objects whose keys start with a prefix. It can neither read nor delete them."""
    allow(
        role,
        ["s3:AbortMultipartUpload", "s3:PutObject"],
        [bucket.arn_for_objects(f"{prefix}*") for prefix in prefixes],
        because="Objects are named at run time; the role writes these prefixes only.",
    )
    if bucket.encryption_key:
        # Decrypt too: S3 reads the parts of a multipart upload back ("Uploading a large file with SSE-KMS").
        bucket.encryption_key.grant(role, "kms:Decrypt", "kms:GenerateDataKey")


def _as_reported(scope: IConstruct, resource: str) -> str:
    """A resource as cdk-nag prints it: `<AWS::Region>`, `<Bucket.Arn>`, or the name of another stack's export."""
    stack = cdk.Stack.of(scope)
    for token in cdk.Tokenization.reverse_string(resource).tokens:
        value = stack.resolve(token)
        if isinstance(token, cdk.Reference) and cdk.Stack.of(token.target).stack_name != stack.stack_name:
            owner = cdk.Stack.of(token.target)
            shown = owner.resolve(owner.export_value(token))["Fn::ImportValue"]
        elif "Ref" in value:
            shown = f"<{value['Ref']}>"
        else:
            shown = "<{}.{}>".format(*value["Fn::GetAtt"])
        resource = resource.replace(cdk.Token.as_string(token), shown)
    return resource
