"""What every crawler and Glue job needs besides its data."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from stacks.permissions import allow
from stacks.processing.network_connection import NetworkConnection


class GlueRole(iam.Role):
    """One role a job: its logs, its metrics, our key, and nothing yet of any data (Task 4.3: least privilege).

    The managed policy AWSGlueServiceRole allows `glue:*`, and listing every bucket of the account: a job could then
    rewrite the job that runs after it. The methods add data, prefix by prefix.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        description: str,
        key: kms.IKey,
        connection: NetworkConnection | None,
    ) -> None:
        super().__init__(
            scope, id, description=description, assumed_by=iam.ServicePrincipal("glue.amazonaws.com")
        )
        self._stack = cdk.Stack.of(self)
        self._log_groups = self._arn("logs", "log-group", "/aws-glue/*", cdk.ArnFormat.COLON_RESOURCE_NAME)
        allow(
            self,
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
            [self._log_groups],
            because="Glue names its log groups after the kind of job, the security configuration and the role.",
        )
        allow(
            self,
            ["cloudwatch:PutMetricData"],
            ["*"],
            because="CloudWatch limits this action by namespace, not by resource: see the condition.",
            conditions={"StringEquals": {"cloudwatch:namespace": ["Glue", "Glue Data Quality"]}},
        )
        key.grant(self, "kms:Decrypt")
        if connection:
            connection.admit(self)

    def use_security_configuration(self, key: kms.IKey) -> None:
        """Write logs, bookmarks and temporary files under our key ("Setting up encryption in AWS Glue")."""
        allow(self, ["logs:AssociateKmsKey"], [self._log_groups])
        allow(
            self,
            ["glue:GetSecurityConfiguration"],
            ["*"],
            because="IAM knows no resource for a security configuration; the action only reads.",
        )
        key.grant(self, "kms:GenerateDataKey")

    def read_folders(self, bucket: s3.IBucket, *folders: str) -> None:
        """Read what lies in `folders`: the S3A client also asks for an object of the folder's own name.

        Listing is allowed for the whole bucket: without it S3 answers 403 instead of 404 for what is not there, and
        Spark fails where it should create.
        """
        allow(self, ["s3:ListBucket"], [bucket.bucket_arn])
        allow(
            self,
            ["s3:GetObject"],
            _objects(bucket, folders),
            because="Objects are named at run time; the role reads these folders only.",
        )

    def write_folders(self, bucket: s3.IBucket, *folders: str) -> None:
        """Write, read back, move and delete in `folders`: Spark stages its output and then renames it."""
        self.read_folders(bucket, *folders)
        allow(
            self,
            ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:PutObject"],
            _objects(bucket, folders),
            because="Objects are named at run time; the role writes these folders only.",
        )

    def read_assets(self, *assets: s3_assets.Asset) -> None:
        """Read the job's own script and packages, and no other asset of the account."""
        allow(self, ["s3:GetObject"], [asset.bucket.arn_for_objects(asset.s3_object_key) for asset in assets])

    def use_tables(self, database: str, *tables: str, actions: list[str]) -> None:
        """Do `actions` on `tables` (names or patterns) of `database`: Glue checks catalog, database and table."""
        allow(
            self,
            actions,
            [
                self._stack.format_arn(service="glue", resource="catalog"),
                self._arn("glue", "database", database),
                *(self._arn("glue", "table", f"{database}/{table}") for table in tables),
            ],
            because="A crawler names its tables after the folders it finds, with this prefix.",
        )

    def _arn(
        self,
        service: str,
        resource: str,
        name: str,
        form: cdk.ArnFormat = cdk.ArnFormat.SLASH_RESOURCE_NAME,
    ) -> str:
        return self._stack.format_arn(service=service, resource=resource, resource_name=name, arn_format=form)


def _objects(bucket: s3.IBucket, folders: tuple[str, ...]) -> list[str]:
    return [bucket.arn_for_objects(key) for folder in folders for key in (folder, f"{folder}/*")]
