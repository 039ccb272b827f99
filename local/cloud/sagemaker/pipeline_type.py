"""The CloudFormation type AWS::SageMaker::Pipeline: each call of it is a call of the API."""

from __future__ import annotations

from local.cloud import resources


def register() -> None:
    """Teach CloudFormation the type; Ref is the pipeline's name."""
    resources.register(
        "AWS::SageMaker::Pipeline",
        create=_create,
        update=_update,
        delete=_delete,
        required=("PipelineDefinition", "RoleArn"),
        optional=("PipelineDisplayName", "PipelineDescription", "ParallelismConfiguration"),
        replacing=("PipelineName",),
        tags=("Tags", "list"),
    )


def _create(request: resources.Request) -> str:
    name = request.name("PipelineName")
    tags = request.properties.get("Tags", [])
    request.client("sagemaker").create_pipeline(PipelineName=name, Tags=tags, **_properties(request))
    return name


def _update(name: str, request: resources.Request, old: resources.Properties) -> None:
    client = request.client("sagemaker")
    # What the template no longer says is as if it had never been said: UpdatePipeline keeps what it is not given.
    given = {"PipelineDescription": "", "PipelineDisplayName": name} | _properties(request)
    arn = client.update_pipeline(PipelineName=name, **given)["PipelineArn"]
    tags = {tag["Key"]: tag for tag in request.properties.get("Tags", [])}
    if gone := [tag["Key"] for tag in old.get("Tags", []) if tag["Key"] not in tags]:
        client.delete_tags(ResourceArn=arn, TagKeys=gone)
    if tags:
        client.add_tags(ResourceArn=arn, Tags=list(tags.values()))


def _delete(name: str, request: resources.Request) -> None:
    client = request.client("sagemaker")
    try:
        client.delete_pipeline(PipelineName=name)
    except client.exceptions.ResourceNotFound:
        return


def _properties(request: resources.Request) -> resources.Properties:
    """The template's properties as the API's parameters."""
    given = {
        name: request.properties[name]
        for name in ("PipelineDisplayName", "PipelineDescription", "RoleArn", "ParallelismConfiguration")
        if name in request.properties
    }
    definition = request.properties["PipelineDefinition"]
    return given | (
        {"PipelineDefinition": definition["PipelineDefinitionBody"]}
        if "PipelineDefinitionBody" in definition
        else {"PipelineDefinitionS3Location": definition["PipelineDefinitionS3Location"]}
    )
