"""The SageMaker Pipeline as the SageMaker SDK writes it: `python -m pipeline.definition` rebuilds the files.

Why committed files: importing the SDK costs seconds and about 1 GB, so `cdk synth` only reads the result, with
`${Placeholders}` that `Fn::Sub` fills. A scalar is a pipeline parameter, so one file serves every stage; a choice
that changes the structure (`Settings`) has its own file, which states its settings and their hash.
Task 2.2 (train and refine models) and Task 3.3 (automated pipelines) of the exam guide.

The SDK runs offline: it gets keys that open nothing, and the session below refuses every upload.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

from pipeline.hyperparameters import HYPERPARAMETERS
from pipeline.instances import REALTIME_TYPES, TRANSFORM_TYPES
from pipeline.schema import ProblemType
from pipeline.settings import FOLDER, Estimator, Settings, parameter_name, settings_hash

# The SDK builds clients while it is imported: without a region it fails, with a profile it would use real keys.
os.environ.update(
    AWS_DEFAULT_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    SAGEMAKER_VALIDATE_ROLE="false",
)
os.environ.pop("AWS_PROFILE", None)

import boto3
from sagemaker.core.config.config_manager import SageMakerConfig
from sagemaker.core.local.local_session import LocalSagemakerClient
from sagemaker.core.network import NetworkConfig
from sagemaker.core.processing import Processor
from sagemaker.core.shapes import (
    MetricDefinition,
    MetricsSource,
    ModelMetrics,
    ModelQuality,
    ProcessingInput,
    ProcessingOutput,
    ProcessingS3Input,
    ProcessingS3Output,
    S3DataSource,
)
from sagemaker.core.workflow.conditions import (
    ConditionGreaterThan,
    ConditionGreaterThanOrEqualTo,
    ConditionLessThan,
    ConditionLessThanOrEqualTo,
)
from sagemaker.core.workflow.execution_variables import ExecutionVariables
from sagemaker.core.workflow.functions import Join, JsonGet
from sagemaker.core.workflow.parameters import ParameterFloat, ParameterInteger, ParameterString
from sagemaker.core.workflow.pipeline_context import PipelineSession
from sagemaker.core.workflow.properties import PropertyFile
from sagemaker.mlops.workflow.condition_step import ConditionStep
from sagemaker.mlops.workflow.fail_step import FailStep
from sagemaker.mlops.workflow.model_step import ModelStep
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.retry import (
    SageMakerJobExceptionTypeEnum,
    SageMakerJobStepRetryPolicy,
    StepExceptionTypeEnum,
    StepRetryPolicy,
)
from sagemaker.mlops.workflow.steps import CacheConfig, ProcessingStep, TrainingStep
from sagemaker.serve.model_builder import ModelBuilder
from sagemaker.train.configs import Compute, InputData, Networking, OutputDataConfig, StoppingCondition
from sagemaker.train.model_trainer import ModelTrainer

REBUILD = "python -m pipeline.definition"

# The SDK looks up a role that is no ARN and uploads a file that is no S3 URI: these stand in for placeholders.
_ROLE = "arn:aws:iam::000000000000:role/"
_CODE = "s3://code"
_REGION = "us-east-1"
_PLACEHOLDERS = {
    _CODE: "${CodeUri}",
    _REGION: "${AWS::Region}",
    **{
        f"{_ROLE}{job}RoleArn": f"${{{job}RoleArn}}"
        for job in ("Prepare", "Train", "TrainBaseline", "Evaluate", "Model")
    },
}
_INPUT, _OUTPUT = "/opt/ml/processing/input", "/opt/ml/processing/output"


@dataclasses.dataclass(frozen=True)
class _Metric:
    """The metric that decides, a threshold to start from, which way is better, and the loss that training lowers."""

    name: str
    threshold: float
    loss: str
    report_path: str
    reaches: type
    beats: type
    words: tuple[str, str]


_METRICS: Mapping[ProblemType, _Metric] = {
    "classification": _Metric(
        "auc",
        0.6,
        "logloss",
        "binary_classification_metrics.auc.value",
        ConditionGreaterThanOrEqualTo,
        ConditionGreaterThan,
        ("at least", "above"),
    ),
    "regression": _Metric(
        "rmse",
        60.0,
        "rmse",
        "regression_metrics.rmse.value",
        ConditionLessThanOrEqualTo,
        ConditionLessThan,
        ("at most", "below"),
    ),
}

# A retry costs minutes, a failed night run costs a day: faults of the service are retried, ours are not.
_STEP_RETRY = StepRetryPolicy(
    exception_types=[StepExceptionTypeEnum.SERVICE_FAULT, StepExceptionTypeEnum.THROTTLING],
    interval_seconds=10,
    backoff_rate=2.0,
    max_attempts=5,
)
_JOB_RETRY = SageMakerJobStepRetryPolicy(
    exception_types=[
        SageMakerJobExceptionTypeEnum.INTERNAL_ERROR,
        SageMakerJobExceptionTypeEnum.CAPACITY_ERROR,
    ],
    interval_seconds=60,
    backoff_rate=2.0,
    max_attempts=3,
)
_RETRY = [_STEP_RETRY, _JOB_RETRY]

# A cached step is found by its arguments, and SageMaker does not look at the data behind a URI. Prepare reads a
# table that grows under one URI, so it always runs; what follows reads Prepare's own output, whose URI is new
# whenever its data are, so a selective execution reuses what did not change.
_FRESH = CacheConfig(enable_caching=False)
_CACHED = CacheConfig(enable_caching=True, expire_after="P30D")


VOLUME_SIZE = ParameterInteger("VolumeSizeInGB", 10)
MAX_RUNTIME = ParameterInteger("MaxRuntimeInSeconds", 3600)


class OfflineSession(PipelineSession):  # type: ignore[misc]
    """Records requests instead of sending them, and puts back what the SDK's types do not admit."""

    def __init__(self) -> None:
        boto = boto3.Session(aws_access_key_id="none", aws_secret_access_key="none", region_name=_REGION)  # noqa: S106 - opens nothing
        opt_out = {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}
        super().__init__(
            boto_session=boto,
            default_bucket="unused",
            sagemaker_config={"SchemaVersion": "1.0", "SageMaker": opt_out},
        )
        self._default_bucket = "unused"

    def upload_data(self, *_: object, **__: object) -> None:
        """Nothing is uploaded while a definition is built: code comes as one archive from CDK."""
        raise AssertionError("the SDK tried to upload data")

    upload_string_as_file_body = upload_data

    def _intercept_create_request(self, request: dict[str, Any], create: Any, func_name: Any = None) -> Any:
        if func_name == "train":  # ModelTrainer types these as plain integers; the service takes parameters
            request["ResourceConfig"]["VolumeSizeInGB"] = VOLUME_SIZE
            request["StoppingCondition"]["MaxRuntimeInSeconds"] = MAX_RUNTIME
        return super()._intercept_create_request(request, create, func_name)


class _Builder:
    """One definition: a method a step, in the order in which they run."""

    def __init__(self, settings: Settings, session: OfflineSession) -> None:
        self.settings, self.session = settings, session
        self.metric = _METRICS[settings.problem_type]
        self.processing_instance = ParameterString("ProcessingInstanceType", "ml.m5.large")
        self.training_instance = ParameterString("TrainingInstanceType", "ml.m5.large")
        self.threshold = ParameterFloat("MetricThreshold", self.metric.threshold)
        # A prefix matches as text: without the slash, flights would also read flights2.
        self.data = ParameterString("InputDataUri", "${CuratedUri}/")
        self.dataset = ParameterString("Dataset", "flights")
        self.approval = ParameterString(
            "ModelApprovalStatus",
            "PendingManualApproval",
            enum_values=["PendingManualApproval", "Approved", "Rejected"],
        )
        self.hyperparameters = {
            name: ParameterString(parameter_name(name), default)
            for name, default in hyperparameters(settings).items()
        }

    def pipeline(self) -> Pipeline:
        prepare = self.prepare()
        train = self.train("Train", prepare, estimator=self.settings.estimator)
        # A linear model is its own baseline: nothing to compare with.
        baseline = None
        if self.settings.estimator != "linear":
            baseline = self.train("TrainBaseline", prepare, estimator="linear")
        evaluate = self.evaluate(prepare, train, baseline)
        steps = [prepare, train, *([baseline] if baseline else []), evaluate]
        steps.append(self.check_quality(evaluate, train, compare=baseline is not None))
        parameters = [
            self.processing_instance,
            self.training_instance,
            VOLUME_SIZE,
            MAX_RUNTIME,
            self.threshold,
            self.data,
            self.dataset,
            self.approval,
            *self.hyperparameters.values(),
        ]
        return Pipeline(
            name="${PipelineName}",
            parameters=parameters,
            steps=steps,
            sagemaker_session=self.session,
            pipeline_experiment_config=None,
        )

    def prepare(self) -> ProcessingStep:
        outputs = ("train", "validation", "test", "transform")
        return self.processing(
            "Prepare",
            inputs={"data": self.data},
            outputs=outputs,
            arguments=["--input", f"{_INPUT}/data", *_flags({name: f"{_OUTPUT}/{name}" for name in outputs})],
            cache_config=_FRESH,
        )

    def train(self, name: str, prepare: ProcessingStep, *, estimator: Estimator) -> TrainingStep:
        own = self.hyperparameters if estimator == self.settings.estimator else {}
        trainer = ModelTrainer(
            sagemaker_session=self.session,
            role=f"{_ROLE}{name}RoleArn",
            base_job_name=name,
            training_image="${ImageUri}",
            compute=Compute(
                instance_type=self.training_instance, instance_count=1, volume_kms_key_id="${KmsKeyArn}"
            ),
            # Script mode fetches the archive from S3 itself, which network isolation would forbid.
            networking=Networking(
                enable_network_isolation=False,
                enable_inter_container_traffic_encryption=True,
                **self.vpc(),
            ),
            stopping_condition=StoppingCondition(max_runtime_in_seconds=1),
            output_data_config=OutputDataConfig(
                s3_output_path=self.artifacts(name), kms_key_id="${KmsKeyArn}", compression_type="GZIP"
            ),
            hyperparameters={
                "sagemaker_program": "pipeline.train",
                "sagemaker_submit_directory": _CODE,
                "sagemaker_region": "${AWS::Region}",
                "schema": self.dataset,
                "problem_type": self.settings.problem_type,
                "estimator": estimator,
                **own,
            },
        ).with_metric_definitions(
            [
                MetricDefinition(name=f"{split}:{metric}", regex=f"{split}-{metric}:([0-9.eE+-]+)")
                for metric in dict.fromkeys((self.metric.name, self.metric.loss))
                for split in ("train", "validation")
            ]
        )
        channels = {"train": "parquet", "validation": "parquet", "transform": "json"}
        data = [
            InputData(
                channel_name=channel,
                content_type=f"application/{kind}",
                data_source=S3DataSource(
                    s3_data_type="S3Prefix",
                    s3_uri=_output_uri(prepare, channel),
                    s3_data_distribution_type="FullyReplicated",
                ),
            )
            for channel, kind in channels.items()
        ]
        return TrainingStep(name, step_args=trainer.train(data), cache_config=_CACHED, retry_policies=_RETRY)

    def evaluate(
        self, prepare: ProcessingStep, train: TrainingStep, baseline: TrainingStep | None
    ) -> ProcessingStep:
        models = {"model": train} | ({"baseline": baseline} if baseline else {})
        inputs = {name: step.properties.ModelArtifacts.S3ModelArtifacts for name, step in models.items()}
        inputs["test"] = _output_uri(prepare, "test")
        flags = _flags({name: f"{_INPUT}/{name}" for name in inputs})
        return self.processing(
            "Evaluate",
            inputs=inputs,
            outputs=("evaluation",),
            arguments=[*flags, "--output", f"{_OUTPUT}/evaluation"],
            property_files=[
                PropertyFile(name.capitalize(), output_name="evaluation", path=f"{name}.json")
                for name in ("evaluation", *(["baseline"] if baseline else []))
            ],
            cache_config=_CACHED,
        )

    def check_quality(self, evaluate: ProcessingStep, train: TrainingStep, *, compare: bool) -> ConditionStep:
        value = JsonGet(evaluate.name, "Evaluation", self.metric.report_path)
        baseline = JsonGet(evaluate.name, "Baseline", self.metric.report_path)
        conditions = [self.metric.reaches(left=value, right=self.threshold)]
        at_least, above = self.metric.words
        reason = [
            f"The model is not registered: its {self.metric.name} on the test split is ",
            value,
            f", it must be {at_least} ",
            self.threshold,
        ]
        if compare:
            conditions.append(self.metric.beats(left=value, right=baseline))
            reason += [f" and {above} the linear baseline's ", baseline]
        return ConditionStep(
            "CheckQuality",
            conditions=conditions,
            if_steps=self.register(evaluate, train, compare=compare),
            else_steps=[FailStep("QualityTooLow", error_message=Join(on="", values=[*reason, "."]))],
        )

    def register(self, evaluate: ProcessingStep, train: TrainingStep, *, compare: bool) -> list[ModelStep]:
        builder = ModelBuilder(
            sagemaker_session=self.session,
            role_arn=f"{_ROLE}ModelRoleArn",
            image_uri="${ImageUri}",
            instance_type=REALTIME_TYPES[0],
            s3_model_data_url=train.properties.ModelArtifacts.S3ModelArtifacts,
            env_vars={
                "SAGEMAKER_PROGRAM": "inference.py",
                "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
                "SAGEMAKER_REGION": _REGION,  # the SDK registers its own session's region in any case
            },
            network=Networking(enable_network_isolation=True, **self.vpc()),
        )

        def report(file: str) -> Join:
            return Join(on="/", values=[_output_uri(evaluate, "evaluation"), file])

        properties = {
            "dataset": self.dataset,
            "problem_type": self.settings.problem_type,
            "estimator": self.settings.estimator,
        }
        if compare:
            properties["baseline_evaluation"] = report("baseline.json")
        statistics = MetricsSource(content_type="application/json", s3_uri=report("evaluation.json"))
        formats = ["application/json", "text/csv"]
        package = builder.register(
            model_package_group_name="${ModelPackageGroupName}",
            content_types=formats,
            response_types=formats,
            inference_instances=list(REALTIME_TYPES),
            transform_instances=list(TRANSFORM_TYPES),
            model_metrics=ModelMetrics(model_quality=ModelQuality(statistics=statistics)),
            approval_status=self.approval,
            customer_metadata_properties=properties,
        )
        return [
            ModelStep("CreateModel", step_args=builder.build(), retry_policies=[_STEP_RETRY]),
            ModelStep("RegisterModel", step_args=package, retry_policies=[_STEP_RETRY]),
        ]

    def processing(
        self,
        name: str,
        *,
        inputs: Mapping[str, Any],
        outputs: Sequence[str],
        arguments: Sequence[Any],
        **step: Any,
    ) -> ProcessingStep:
        code = f"{_INPUT}/code"
        unpack_and_run = (
            f"set -e; d=$(mktemp -d); tar -xzf {code}/*.tar.gz -C $d; cd $d; "
            f'exec python3 -m pipeline.{name.lower()} "$@"'
        )
        processor = Processor(
            sagemaker_session=self.session,
            role=f"{_ROLE}{name}RoleArn",
            base_job_name=name,
            image_uri="${ImageUri}",
            entrypoint=["/bin/sh", "-c", unpack_and_run, "--"],
            instance_count=1,
            instance_type=self.processing_instance,
            volume_size_in_gb=VOLUME_SIZE,
            volume_kms_key="${KmsKeyArn}",
            output_kms_key="${KmsKeyArn}",
            max_runtime_in_seconds=MAX_RUNTIME,
            network_config=NetworkConfig(
                enable_network_isolation=True,
                encrypt_inter_container_traffic=True,
                **self.vpc(),
            ),
        )
        common = _flags({"schema": self.dataset, "problem-type": self.settings.problem_type})
        run = processor.run(
            inputs=[_input(key, uri) for key, uri in (*inputs.items(), ("code", _CODE))],
            outputs=[
                _output(key, Join(on="/", values=[*self.artifacts(name).values, key])) for key in outputs
            ],
            arguments=[*common, *arguments],
        )
        return ProcessingStep(name, step_args=run, retry_policies=_RETRY, **step)

    def artifacts(self, step: str) -> Join:
        """Where a step writes: its own prefix in every execution, so that nothing is ever overwritten.

        The step comes first, so that a role can be bound to it (stacks/training/job_role.py), and data sets can expire
        while models stay (stacks/foundation/bucket.py).
        """
        return Join(on="/", values=[f"${{ArtifactsUri}}/{step}", ExecutionVariables.PIPELINE_EXECUTION_ID])

    def vpc(self) -> dict[str, list[str]]:
        """Subnets and security group, where the stage isolates its jobs."""
        if not self.settings.isolated:
            return {}
        return {"subnets": ["${SubnetIds}"], "security_group_ids": ["${SecurityGroupId}"]}


def _flags(values: Mapping[str, Any]) -> list[Any]:
    return [item for name, value in values.items() for item in (f"--{name}", value)]


def _output_uri(step: ProcessingStep, output: str) -> Any:
    return step.properties.ProcessingOutputConfig.Outputs[output].S3Output.S3Uri


def _input(name: str, uri: Any) -> ProcessingInput:
    source = ProcessingS3Input(
        s3_uri=uri,
        local_path=f"{_INPUT}/{name}",
        s3_data_type="S3Prefix",
        s3_input_mode="File",
        s3_data_distribution_type="FullyReplicated",
    )
    return ProcessingInput(input_name=name, s3_input=source)


def _output(name: str, uri: Any) -> ProcessingOutput:
    target = ProcessingS3Output(s3_uri=uri, local_path=f"{_OUTPUT}/{name}", s3_upload_mode="EndOfJob")
    return ProcessingOutput(output_name=name, s3_output=target)


def all_settings() -> Iterator[Settings]:
    """Every structure that a stage's configuration can ask for."""
    problems: tuple[ProblemType, ...] = ("classification", "regression")
    estimators: tuple[Estimator, ...] = ("xgboost", "linear")
    for problem_type, estimator, isolated in itertools.product(problems, estimators, (False, True)):
        yield Settings(problem_type, estimator, isolated)


def hyperparameters(settings: Settings) -> dict[str, str]:
    """The estimator's flags in `pipeline.train` and their defaults, as SageMaker takes them: strings."""
    return {name: str(flag.default) for name, flag in HYPERPARAMETERS[settings.estimator].items()}


def build(settings: Settings, session: OfflineSession) -> str:
    """The text of one committed file: settings, their hash, and the definition with its placeholders."""
    # Seconds for each definition: the SDK checks its configuration against a large schema at every look-up, and
    # opens clients for a local mode that nothing here uses.
    unchecked = mock.patch.object(SageMakerConfig, "validate_sagemaker_config")
    not_local = mock.patch.object(LocalSagemakerClient, "__init__", return_value=None)
    with warnings.catch_warnings(), unchecked, not_local:
        warnings.simplefilter("ignore")  # "no job is being started": exactly what is wanted
        definition = _Builder(settings, session).pipeline().definition()
    for stand_in, placeholder in _PLACEHOLDERS.items():
        definition = definition.replace(stand_in, placeholder)
    stated = dataclasses.asdict(settings) | {"hyperparameters": sorted(hyperparameters(settings))}
    content = {
        "settings": stated,
        "settings_hash": settings_hash(stated),
        "definition": json.loads(definition),
    }
    return json.dumps(content, indent=1) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Write every definition, or with `--check` name the files that differ from what the SDK builds."""
    parser = argparse.ArgumentParser(prog=REBUILD, description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit code 1 if a file differs")
    arguments = parser.parse_args(argv)
    logging.disable(logging.WARNING)  # the SDK reports every default it does not find
    session, differing = OfflineSession(), []
    for settings in all_settings():
        path, text = FOLDER / settings.file_name, build(settings, session)
        if path.exists() and path.read_text() == text:
            continue
        differing.append(path.name)
        if not arguments.check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            print(f"wrote {path}")
    if arguments.check and differing:
        print(
            f"{FOLDER}: {', '.join(differing)} differ from what the SDK builds. Run: {REBUILD}",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
