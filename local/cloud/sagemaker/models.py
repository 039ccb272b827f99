"""Models and endpoint configurations: what an endpoint will run, checked when it is created, started by nobody yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from local.cloud import roles
from local.cloud.extensions import Cloud
from local.cloud.place import REGION
from local.cloud.protocol import Caller, Operation, arn
from local.cloud.sagemaker import asynchronous_config, variants
from local.cloud.sagemaker.store import Record, Store, authorize_create, invalid, only, page
from local.runner import storage

_MODEL = (
    "ModelName",
    "PrimaryContainer",
    "Containers",
    "ExecutionRoleArn",
    "VpcConfig",
    "EnableNetworkIsolation",
)
_CONTAINER = ("Image", "ModelDataUrl", "Environment", "ModelPackageName", "Mode", "ContainerHostname")
_CONFIG = (
    "EndpointConfigName",
    "ProductionVariants",
    "DataCaptureConfig",
    "KmsKeyId",
    "AsyncInferenceConfig",
    "ShadowProductionVariants",
)
_VARIANT = (
    "VariantName",
    "ModelName",
    "InitialInstanceCount",
    "InstanceType",
    "InitialVariantWeight",
    "ServerlessConfig",
)
_INSTANCES = 10  # of a variant: each is a process on this machine


@dataclasses.dataclass(frozen=True)
class Runnable:
    """What a model runs: image, archive and environment, and as which role."""

    image: str
    data: str
    environment: Mapping[str, str]
    role: str
    isolated: bool


def operations(cloud: Cloud, store: Store) -> dict[str, Operation]:
    """The part of the API for models and endpoint configurations."""
    models = _Models(cloud, store)
    return {
        "CreateModel": models.create,
        "DescribeModel": models.describe,
        "ListModels": models.list_models,
        "DeleteModel": models.delete,
        "CreateEndpointConfig": models.create_config,
        "DescribeEndpointConfig": models.describe_config,
        "ListEndpointConfigs": models.list_configs,
        "DeleteEndpointConfig": models.delete_config,
    }


def model_arn(name: str) -> str:
    """The ARN of a model."""
    return arn("sagemaker", f"model/{name}")


def config_arn(name: str) -> str:
    """The ARN of an endpoint configuration."""
    return arn("sagemaker", f"endpoint-config/{name}")


def config(store: Store, name: str) -> Record:
    """An endpoint configuration; `ApiError` if there is none."""
    resource = config_arn(name)
    return store.get(resource, missing=f'Could not find endpoint configuration "{resource}".')


def model(store: Store, name: str) -> Record:
    """A model; `ApiError` if there is none."""
    return store.get(model_arn(name), missing=f'Could not find model "{model_arn(name)}".')


def runnable(store: Store, found: Record) -> Runnable:
    """What the model of this record runs; a model package's container stands for one that names the package."""
    container = found["PrimaryContainer"]
    if package := container.get("ModelPackageName"):
        version = store.get(package, missing=f"ModelPackage {package} does not exist.")
        (packaged,) = version["InferenceSpecification"]["Containers"]
        environment = {**packaged.get("Environment", {}), **container.get("Environment", {})}
        container = {**packaged, "Environment": environment}
    return Runnable(
        container["Image"],
        container["ModelDataUrl"],
        container.get("Environment", {}),
        found["ExecutionRoleArn"],
        found["EnableNetworkIsolation"],
    )


def check_instances(count: int, where: str) -> None:
    """Raise `ApiError` if so many instances are no variant's here."""
    if count > _INSTANCES:
        raise invalid(f"{where}: more than {_INSTANCES} instances are unsupported in the embedded cloud.")


class _Models:
    def __init__(self, cloud: Cloud, store: Store) -> None:
        self._cloud, self._store = cloud, store

    def create(self, caller: Caller, request: Record) -> Record:
        tags, resource = request.pop("Tags", []), model_arn(request["ModelName"])
        authorize_create(caller, "CreateModel", resource, tags)
        only(request, _MODEL)
        containers = request.pop("Containers", [])
        if len(containers) == 1 and "PrimaryContainer" not in request:
            request["PrimaryContainer"] = containers[0]
        elif containers or "PrimaryContainer" not in request:
            raise invalid("Exactly one container is supported in the embedded cloud.")
        container = request["PrimaryContainer"]
        only(container, _CONTAINER, "PrimaryContainer.")
        if "ExecutionRoleArn" not in request:
            raise invalid("ExecutionRoleArn is required.")
        if package := container.get("ModelPackageName"):
            caller.authorize("sagemaker:DescribeModelPackage", package)
        elif not container.get("Image") or not container.get("ModelDataUrl"):
            raise invalid("A container needs ModelPackageName, or Image and ModelDataUrl.")
        caller.pass_role(request["ExecutionRoleArn"], "sagemaker.amazonaws.com")
        record = {"EnableNetworkIsolation": False, **request, "ModelArn": resource}
        self._check_data(runnable(self._store, record))
        self._store.add(resource, record, tags, exists=f'Cannot create already existing model "{resource}".')
        return {"ModelArn": resource}

    def describe(self, caller: Caller, request: Record) -> Record:
        caller.authorize("sagemaker:DescribeModel", model_arn(request["ModelName"]))
        return model(self._store, request["ModelName"])

    def list_models(self, caller: Caller, request: Record) -> Record:
        caller.authorize("sagemaker:ListModels", "*")
        return self._listed("model", ("ModelName", "ModelArn", "CreationTime"), "Models", request)

    def delete(self, caller: Caller, request: Record) -> None:
        caller.authorize("sagemaker:DeleteModel", model_arn(request["ModelName"]))
        model(self._store, request["ModelName"])
        self._store.remove(model_arn(request["ModelName"]))

    def create_config(self, caller: Caller, request: Record) -> Record:
        tags, resource = request.pop("Tags", []), config_arn(request["EndpointConfigName"])
        authorize_create(caller, "CreateEndpointConfig", resource, tags)
        only(request, _CONFIG)
        named: dict[str, Record] = {}
        for where, variant in variants.numbered(request):
            only(variant, _VARIANT, f"{where}.")
            if "ServerlessConfig" not in variant:
                if "InstanceType" not in variant or variant.get("InitialInstanceCount", 0) < 1:
                    raise invalid(f"{where} needs InstanceType and InitialInstanceCount.")
                check_instances(variant["InitialInstanceCount"], where)
            named[variant["ModelName"]] = model(self._store, variant["ModelName"])
        variants.check(request, named)
        asynchronous_config.check(request)
        names = [variant["VariantName"] for _, variant in variants.numbered(request)]
        if len(set(names)) < len(names):
            raise invalid("The names of the production variants of an endpoint configuration must be unique.")
        variants.check_weights(it.get("InitialVariantWeight", 1.0) for it in request["ProductionVariants"])
        self._store.add(
            resource,
            request | {"EndpointConfigArn": resource},
            tags,
            exists=f'Cannot create already existing endpoint configuration "{resource}".',
        )
        return {"EndpointConfigArn": resource}

    def describe_config(self, caller: Caller, request: Record) -> Record:
        caller.authorize("sagemaker:DescribeEndpointConfig", config_arn(request["EndpointConfigName"]))
        return config(self._store, request["EndpointConfigName"])

    def list_configs(self, caller: Caller, request: Record) -> Record:
        caller.authorize("sagemaker:ListEndpointConfigs", "*")
        names = ("EndpointConfigName", "EndpointConfigArn", "CreationTime")
        return self._listed("endpoint-config", names, "EndpointConfigs", request)

    def delete_config(self, caller: Caller, request: Record) -> None:
        caller.authorize("sagemaker:DeleteEndpointConfig", config_arn(request["EndpointConfigName"]))
        config(self._store, request["EndpointConfigName"])
        self._store.remove(config_arn(request["EndpointConfigName"]))

    def _listed(self, kind: str, names: tuple[str, ...], answer: str, request: Record) -> Record:
        named = request.get("NameContains", "")
        records = [it for it in self._store.all(kind).values() if named in it[names[0]]]
        found, token = page(records, request, order="Descending")
        return {answer: [{name: it[name] for name in names} for it in found], "NextToken": token}

    def _check_data(self, wanted: Runnable) -> None:
        """As AWS does at this moment: the archive must be there, and the model's role must be able to read it."""
        try:
            bucket, key = storage.split(wanted.data)
        except storage.StorageError as error:
            raise invalid(str(error)) from None
        try:
            s3: Any = roles.assume(wanted.role, "sagemaker", "SageMaker").client("s3", self._cloud.place)
            s3.head_object(Bucket=bucket, Key=key)
        except (ClientError, roles.AccessDeniedError) as error:
            if isinstance(error, ClientError) and error.response["Error"]["Code"] in {"404", "NoSuchBucket"}:
                raise invalid(f"Could not find model data at {wanted.data}.") from None
            raise invalid(
                f'Could not access model data at {wanted.data}. Please ensure that the role "{wanted.role}" exists and '
                'that its trust relationship policy allows the action "sts:AssumeRole" for the service principal '
                '"sagemaker.amazonaws.com". Also ensure that the role has "s3:GetObject" permissions and that the '
                f"object is located in {REGION}."
            ) from None
