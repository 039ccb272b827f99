"""A deployed account for the tools that look at one: real clients on moto, and a CloudFormation that lists what is there.

moto's CloudFormation creates only some of the types, so the stacks are listed here and their resources made through
the services' own APIs.
"""

import json
import os

import boto3
import botocore.exceptions

REGION = "us-east-1"
TLS_ONLY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": "*",
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ],
}


class Stacks:
    """The three CloudFormation calls that the tools make."""

    def __init__(self):
        self.stacks = {}
        self.protected = set()
        self.status = {}
        self.gone = set()

    def add(self, stack, kind, physical_id):
        self.stacks.setdefault(stack, []).append((kind, physical_id))

    def describe_stacks(self, *, StackName):  # noqa: N803
        if StackName not in self.stacks:
            message = f"Stack with id {StackName} does not exist"
            raise botocore.exceptions.ClientError(
                {"Error": {"Code": "ValidationError", "Message": message}}, "DescribeStacks"
            )
        return {
            "Stacks": [
                {
                    "StackStatus": self.status.get(StackName, "CREATE_COMPLETE"),
                    "EnableTerminationProtection": StackName in self.protected,
                }
            ]
        }

    def get_paginator(self, operation):
        assert operation == "list_stack_resources"
        return self

    def paginate(self, *, StackName):  # noqa: N803
        listed = [
            {
                "ResourceType": kind,
                "PhysicalResourceId": name,
                "ResourceStatus": "DELETE_COMPLETE" if name in self.gone else "CREATE_COMPLETE",
            }
            for kind, name in self.stacks[StackName]
        ]
        return [{"StackResourceSummaries": listed[:1]}, {"StackResourceSummaries": listed[1:]}]


class SageMaker:
    """moto's SageMaker with what it lacks: deleting a model package, and pipeline runs that can be stopped.

    `runs` has each run's status by ARN, `run_models` the model's ARN of those that made one.
    """

    def __init__(self):
        self.moto = boto3.client("sagemaker", region_name=REGION)
        self.deleted_packages = []
        self.runs = {}
        self.run_models = {}

    def __getattr__(self, name):
        return getattr(self.moto, name)

    def delete_model_package(self, *, ModelPackageName):  # noqa: N803
        self.deleted_packages.append(ModelPackageName)

    def stop_pipeline_execution(self, *, PipelineExecutionArn):  # noqa: N803
        assert self.runs[PipelineExecutionArn] == "Executing"
        self.runs[PipelineExecutionArn] = "Stopping"

    def _executions(self, *, PipelineName, SortOrder):  # noqa: N803
        assert SortOrder == "Descending"
        for arn, status in self.runs.items():
            summary = {"PipelineExecutionArn": arn, "PipelineExecutionStatus": status}
            yield {"PipelineExecutionSummaries": [summary]}

    def _steps(self, *, PipelineExecutionArn):  # noqa: N803
        model = self.run_models.get(PipelineExecutionArn)
        made = [{"Metadata": {"Model": {"Arn": model}}}] if model else []
        yield {"PipelineExecutionSteps": [*made, {"StepName": "Fail"}]}

    def _packages(self, *, ModelPackageGroupName):  # noqa: N803
        listed = self.moto.list_model_packages(ModelPackageGroupName=ModelPackageGroupName)
        found = listed["ModelPackageSummaryList"]
        yield {
            "ModelPackageSummaryList": [
                item for item in found if item["ModelPackageArn"] not in self.deleted_packages
            ]
        }

    def get_paginator(self, operation):
        own = {
            "list_model_packages": self._packages,
            "list_pipeline_executions": self._executions,
            "list_pipeline_execution_steps": self._steps,
        }
        return type("Pages", (), {"paginate": lambda _self, **asked: own[operation](**asked)})()


class Tagging:
    """The Resource Groups Tagging API for SageMaker: moto's knows models, but no endpoint configs."""

    def __init__(self, sagemaker):
        self.sagemaker = sagemaker

    def get_paginator(self, operation):
        assert operation == "get_resources"
        return self

    def paginate(self, *, TagFilters, ResourceTypeFilters):  # noqa: N803
        wanted = {(tag["Key"], value) for tag in TagFilters for value in tag["Values"]}
        listed = {
            "sagemaker:model": [item["ModelArn"] for item in self.sagemaker.list_models()["Models"]],
            "sagemaker:endpoint-config": [
                item["EndpointConfigArn"]
                for item in self.sagemaker.list_endpoint_configs()["EndpointConfigs"]
            ],
        }
        for arn in (arn for kind in ResourceTypeFilters for arn in listed[kind]):
            tags = {(tag["Key"], tag["Value"]) for tag in self.sagemaker.list_tags(ResourceArn=arn)["Tags"]}
            if wanted <= tags:
                yield {"ResourceTagMappingList": [{"ResourceARN": arn}]}


class Account:
    """Gives a client by service name, as the tools ask for it."""

    def __init__(self):
        os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION=REGION)
        self.stacks = Stacks()
        self.sagemaker = SageMaker()

    def __call__(self, service):
        own = {
            "cloudformation": self.stacks,
            "sagemaker": self.sagemaker,
            "resourcegroupstaggingapi": Tagging(self.sagemaker),
        }
        return own.get(service) or boto3.client(service, region_name=REGION)

    def bucket(self, stack, name, *, policy=TLS_ONLY):
        s3 = self("s3")
        s3.create_bucket(Bucket=name)
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}
        s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})
        keys = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=dict.fromkeys(keys, True))
        # moto applies a Deny whatever its condition, so a test that writes objects goes without the policy.
        if policy:
            s3.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
        self.stacks.add(stack, "AWS::S3::Bucket", name)
