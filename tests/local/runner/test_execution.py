"""Whole executions, each step a real process, on an account in memory."""

import dataclasses
import io
import json
import os
import signal
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from local.runner import DefinitionError, Event, UnsupportedError
from tests.local.runner.conftest import Cloud
from tests.local.runner.written import (
    BUCKET,
    GROUP,
    PROCESSING,
    Json,
    compare,
    condition,
    fail,
    get,
    join,
    json_get,
    model,
    output,
    parameter,
    pipeline,
    processing,
    register,
    training,
)

WRITE_REPORT = f"echo '{{\"auc\": {{\"value\": '$1'}}}}' > {PROCESSING}/output/report/evaluation.json"


def trained() -> Json:
    """Prepare → train: `gated` without what follows."""
    whole = gated()
    return whole | {"Steps": whole["Steps"][:2]}


def gated(auc: float = 0.8) -> Json:
    """Prepare → train → evaluate → register above a threshold, else fail: the shape of most pipelines."""
    evaluate = processing(
        "Evaluate",
        f"test -s {PROCESSING}/input/model/model.tar.gz; set -- {auc}; {WRITE_REPORT}",
        inputs={"model": get("Steps.Train.ModelArtifacts.S3ModelArtifacts")},
        outputs=("report",),
        files={"Evaluation": "evaluation.json"},
    )
    value = json_get("Evaluate", "Evaluation", "auc.value")
    return pipeline(
        processing(
            "Prepare",
            f"tr a-z A-Z < {PROCESSING}/input/raw/rows.csv > {PROCESSING}/output/train/rows.csv",
            inputs={"raw": get("Parameters.Raw")},
            outputs=("train",),
        ),
        training(
            "Train",
            "cp /opt/ml/input/data/train/rows.csv /opt/ml/model/; echo 'train-auc:0.5'; echo 'train-auc:0.75'",
            channels={"train": output("Prepare", "train")},
            metrics={"train:auc": "train-auc:([0-9.]+)"},
        ),
        evaluate,
        condition(
            "Check",
            compare("GreaterThanOrEqualTo", value, get("Parameters.Threshold")),
            then=[model("Create", "Train"), register("Register", "Train")],
            otherwise=[fail("TooLow", join("auc ", value, " is below ", get("Parameters.Threshold")))],
        ),
        parameters=[
            parameter("Raw", f"s3://{BUCKET}/raw/"),
            parameter("Threshold", 0.7, "Float"),
        ],
    )


@pytest.fixture
def data(cloud: Cloud) -> Cloud:
    cloud.put("raw/rows.csv", "a,b\n")
    cloud.put("data/rows.csv", "A,B\n")
    return cloud


def archive_of(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def gone(pid: int) -> bool:
    """Whether the process has ended, or ends within two seconds (an orphan is reaped by init)."""
    deadline = time.monotonic() + 2
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


# What a pipeline is for.


def test_a_model_above_the_threshold_is_registered_with_its_artifact(data: Cloud) -> None:
    result = data.run(gated(auc=0.8))
    assert (result.status, result.failure_reason) == ("Succeeded", "")
    assert list(result.steps) == ["Prepare", "Train", "Evaluate", "Check", "Create", "Register"]
    assert result.not_executed == ("TooLow",)
    [package] = data.packages()
    described = data.setting.sagemaker.describe_model_package(ModelPackageName=package["ModelPackageArn"])
    [container] = described["InferenceSpecification"]["Containers"]
    body = data.s3.get_object(Bucket=BUCKET, Key=container["ModelDataUrl"].removeprefix(f"s3://{BUCKET}/"))[
        "Body"
    ]
    with tarfile.open(fileobj=io.BytesIO(body.read())) as tar:
        member = tar.extractfile("rows.csv")
        assert member is not None
        assert member.read() == b"A,B\n"
    assert package["ModelApprovalStatus"] == "PendingManualApproval"
    [created] = data.models()
    assert created["ModelName"] == result.steps["Create"].properties["ModelName"]


def test_a_model_below_the_threshold_is_not_registered_and_the_reason_states_both_values(data: Cloud) -> None:
    result = data.run(gated(auc=0.6))
    assert result.status == "Failed"
    assert result.failure_reason == "Step failure: One or multiple steps failed."
    assert result.steps["TooLow"].failure_reason == "auc 0.6 is below 0.7"
    assert result.not_executed == ("Create", "Register")
    assert data.packages() == data.models() == []


def test_a_parameter_given_at_the_start_overrides_its_default(data: Cloud) -> None:
    result = data.run(gated(auc=0.6), parameters={"Threshold": "0.5"})  # the API sends strings
    assert result.status == "Succeeded"
    assert result.parameters["Threshold"] == 0.5


def test_events_tell_of_starts_lines_and_ends_in_order(data: Cloud) -> None:
    data.run(trained())
    assert [(event.step, event.kind, event.text) for event in data.events] == [
        ("Prepare", "started", "Processing"),
        ("Prepare", "ended", "Succeeded"),
        ("Train", "started", "Training"),
        ("Train", "line", "train-auc:0.5"),
        ("Train", "line", "train-auc:0.75"),
        ("Train", "ended", "Succeeded"),
    ]


def test_each_step_keeps_its_output_in_a_log(data: Cloud) -> None:
    log = data.run(trained()).steps["Train"].log
    assert log is not None
    assert log.read_text() == "train-auc:0.5\ntrain-auc:0.75\n"


def test_the_last_match_of_a_metric_definition_is_the_final_metric(data: Cloud) -> None:
    metrics = data.run(trained()).steps["Train"].properties["FinalMetricDataList"]
    assert [(metric["MetricName"], metric["Value"]) for metric in metrics] == [("train:auc", 0.75)]


def test_two_executions_do_not_overwrite_each_other(data: Cloud) -> None:
    first, second = data.run(gated()), data.run(gated())
    assert first.id != second.id
    assert len(data.keys("models/")) == len(data.packages()) == 2


def test_a_step_that_waits_by_depends_on_runs_after_it_although_written_before(data: Cloud) -> None:
    late = processing("Late", "echo late", DependsOn=["Early"])
    assert list(data.run(pipeline(late, processing("Early", "echo early"))).steps) == ["Early", "Late"]


def test_a_caller_may_know_the_executions_id_beforehand(data: Cloud) -> None:
    assert data.run(trained(), execution_id="abcdefghijkl").arn.endswith("/execution/abcdefghijkl")


def test_a_condition_inside_a_branch_and_its_outcome_are_interpreted(data: Cloud) -> None:
    inner = condition(
        "Inner", compare("Equals", get("Steps.Outer.Outcome"), "True"), then=[fail("Reached", "both")]
    )
    result = data.run(pipeline(condition("Outer", compare("Equals", 1, 1), then=[inner])))
    assert list(result.steps) == ["Outer", "Inner", "Reached"]


def test_a_step_that_needs_one_of_a_branch_not_taken_does_not_run(data: Cloud) -> None:
    skipped = condition("Check", compare("Equals", 1, 2), then=[processing("Then", "true", outputs=("out",))])
    after = processing("After", "true", inputs={"in": output("Then", "out")})
    result = data.run(pipeline(skipped, after))
    assert (result.status, result.not_executed) == ("Succeeded", ("Then", "After"))


def test_json_can_be_read_from_s3_without_a_property_file(cloud: Cloud) -> None:
    uri = cloud.put("report.json", '{"Output": [5, 10]}')
    value = {"Std:JsonGet": {"S3Uri": join(uri), "Path": "Output[1]"}}
    result = cloud.run(
        pipeline(condition("Check", compare("LessThanOrEqualTo", value, 6.0), otherwise=[fail("No", "")]))
    )
    assert list(result.steps) == ["Check", "No"]


# How steps fail.


def test_a_processing_step_that_crashes_carries_its_message_and_uploads_nothing(data: Cloud) -> None:
    crash = f"echo half > {PROCESSING}/output/out/half.csv; echo 'column delay is missing' > /opt/ml/output/message; exit 3"
    result = data.run(
        pipeline(
            processing("Prepare", crash, outputs=("out",)), processing("Next", "true", DependsOn=["Prepare"])
        )
    )
    step = result.steps["Prepare"]
    assert (result.status, step.status) == ("Failed", "Failed")
    assert step.failure_reason == "AlgorithmError: column delay is missing, exit code: 3"
    assert step.properties["ExitMessage"] == "column delay is missing"
    assert step.properties["ProcessingJobStatus"] == "Failed"
    assert result.not_executed == ("Next",)
    assert data.keys(result.id) == []


def test_a_training_step_that_crashes_carries_its_failure_file_and_registers_nothing(data: Cloud) -> None:
    crash = "echo 'all labels are 0' > /opt/ml/output/failure; exit 1"
    result = data.run(pipeline(training("Train", crash), register("Register", "Train")))
    assert result.steps["Train"].failure_reason == "AlgorithmError: all labels are 0, exit code: 1"
    assert result.steps["Train"].properties["TrainingJobStatus"] == "Failed"
    assert data.packages() == []
    assert data.keys("models/") == []


def test_without_a_reason_the_last_lines_of_the_log_are_the_reason(data: Cloud) -> None:
    result = data.run(pipeline(training("Train", "echo first; echo 'KeyError: delay' >&2; exit 1")))
    assert result.steps["Train"].failure_reason == "AlgorithmError: first\nKeyError: delay, exit code: 1"


def test_a_reason_is_cut_as_the_service_cuts_it(data: Cloud) -> None:
    result = data.run(
        pipeline(training("Train", "head -c 5000 /dev/zero | tr '\\0' x > /opt/ml/output/failure; exit 1"))
    )
    assert len(result.steps["Train"].failure_reason) <= 1024 + len("AlgorithmError: , exit code: 1")


@pytest.mark.parametrize("step", [processing, training])
def test_a_job_that_exceeds_its_time_is_stopped_and_fails_the_execution(data: Cloud, step: Any) -> None:
    started = time.monotonic()
    result = data.run(pipeline(step("Slow", "echo $$; sleep 60", seconds=1)))
    assert time.monotonic() - started < 10
    assert (result.status, result.steps["Slow"].status) == ("Failed", "Failed")
    assert result.steps["Slow"].failure_reason == "MaxRuntimeExceeded: the job was stopped after 1 seconds."
    properties = result.steps["Slow"].properties
    assert properties.get("ProcessingJobStatus", properties.get("TrainingJobStatus")) == "Stopped"
    assert properties.get("SecondaryStatus", "MaxRuntimeExceeded") == "MaxRuntimeExceeded"
    assert gone(int(data.lines("Slow")[0]))


def test_a_job_that_ignores_the_polite_signal_is_killed(data: Cloud) -> None:
    # Without the second signal it would come to its last words.
    script = "trap '' TERM; echo $$; for i in $(seq 150); do sleep 0.1; done; echo over"
    result = data.run(pipeline(processing("Stubborn", script, seconds=1)))
    assert result.steps["Stubborn"].properties["ProcessingJobStatus"] == "Stopped"
    [process] = data.lines("Stubborn")
    assert gone(int(process))


def test_an_output_that_was_not_written_fails_the_step_that_reads_it(data: Cloud) -> None:
    prepare = processing("Prepare", "true", outputs=("train",))
    result = data.run(
        pipeline(prepare, training("Train", "true", channels={"train": output("Prepare", "train")}))
    )
    assert result.steps["Prepare"].status == "Succeeded"
    assert result.steps["Train"].failure_reason == (
        f'ClientError: No S3 objects found under S3 URL "s3://{BUCKET}/{result.id}/Prepare/train" given in input data source.'
    )
    assert "ModelArtifacts" not in result.steps["Train"].properties


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("true", "cannot be read"),
        ("set -- nan; echo '{' > /opt/ml/processing/output/report/evaluation.json", "not JSON"),
        ("echo '{}' > /opt/ml/processing/output/report/evaluation.json", "has no auc.value"),
    ],
)
def test_a_property_file_that_is_missing_or_unreadable_fails_the_condition(
    data: Cloud, script: str, reason: str
) -> None:
    evaluate = processing("Evaluate", script, outputs=("report",), files={"Evaluation": "evaluation.json"})
    check = condition(
        "Check",
        compare("GreaterThan", json_get("Evaluate", "Evaluation", "auc.value"), 0.5),
        then=[fail("No", "")],
    )
    result = data.run(pipeline(evaluate, check))
    assert result.steps["Check"].status == "Failed"
    assert (
        f"s3://{BUCKET}/{result.id}/Evaluate/report/evaluation.json" in result.steps["Check"].failure_reason
    )
    assert reason in result.steps["Check"].failure_reason


def test_values_that_have_no_order_fail_the_condition(data: Cloud) -> None:
    evaluate = processing(
        "Evaluate",
        f"set -- '\"high\"'; {WRITE_REPORT}",
        outputs=("report",),
        files={"Evaluation": "evaluation.json"},
    )
    check = condition("Check", compare("GreaterThan", json_get("Evaluate", "Evaluation", "auc.value"), 0.5))
    assert (
        data.run(pipeline(evaluate, check)).steps["Check"].failure_reason
        == "GreaterThan cannot compare 'high' with 0.5."
    )


def test_what_the_registry_refuses_fails_the_step_with_its_words(data: Cloud) -> None:
    result = data.run(
        pipeline(training("Train", "touch /opt/ml/model/m"), register("Register", "Train", group="unknown"))
    )
    assert result.status == "Failed"
    assert result.steps["Register"].failure_reason.startswith("ClientError: ")
    assert "Model Package Group does not exist" in result.steps["Register"].failure_reason


def test_a_request_whose_value_turns_out_wrong_fails_its_step(data: Cloud) -> None:
    long = f"printf '{{\"note\": \"%s\"}}' $(head -c 3000 /dev/zero | tr '\\0' x) > {PROCESSING}/output/out/note.json"
    note = processing("Note", long, outputs=("out",), files={"Note": "note.json"})
    train = training("Train", "true", hyperparameters={"note": join(json_get("Note", "Note", "note"))})
    reason = data.run(pipeline(note, train)).steps["Train"].failure_reason
    assert reason.startswith("ValidationException: 1 validation error detected: Value 'xxx")
    assert reason.endswith(
        "x' at 'hyperParameters.note' failed to satisfy constraint: Member must have length less than or equal to 2500"
    )


def test_a_bucket_that_does_not_exist_fails_the_step(data: Cloud) -> None:
    result = data.run(pipeline(processing("Prepare", "true", inputs={"raw": "s3://missing/raw"})))
    assert "NoSuchBucket" in result.steps["Prepare"].failure_reason


# Interruption.


SPAWNS = "sleep 60 & echo $! $$; wait"


def test_ctrl_c_goes_to_the_caller_and_leaves_no_process(data: Cloud) -> None:
    seen: list[int] = []

    def interrupt(event: Event) -> None:
        if event.kind == "line":
            seen.extend(map(int, event.text.split()))
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        data.run(pipeline(processing("Long", SPAWNS)), on_event=interrupt)
    assert len(seen) == 2
    assert all(gone(pid) for pid in seen)


def test_a_stop_request_ends_the_running_step_and_starts_no_other(data: Cloud) -> None:
    setting = dataclasses.replace(data.setting, stop=lambda: bool(data.lines("Long")))
    result = data.run(
        pipeline(processing("Long", SPAWNS), processing("Next", "true", DependsOn=["Long"])), setting=setting
    )
    assert (result.status, result.failure_reason) == ("Stopped", "")
    assert result.steps["Long"].status == "Stopped"
    assert result.steps["Long"].properties["ProcessingJobStatus"] == "Stopped"
    assert result.not_executed == ("Next",)
    assert all(gone(int(pid)) for pid in data.lines("Long")[0].split())


def test_a_stop_request_before_the_first_step_runs_nothing(data: Cloud) -> None:
    result = data.run(gated(), setting=dataclasses.replace(data.setting, stop=lambda: True))
    assert (result.status, dict(result.steps)) == ("Stopped", {})


def test_what_a_step_leaves_running_ends_with_it(data: Cloud) -> None:
    result = data.run(pipeline(processing("Careless", "sleep 60 & echo $!")))
    assert result.status == "Succeeded"
    assert gone(int(data.lines("Careless")[0]))


# What is refused before anything runs.


def test_an_unsupported_step_type_is_refused_before_anything_runs(data: Cloud) -> None:
    tuning = {"Name": "Tune", "Type": "Tuning", "Arguments": {}}
    with pytest.raises(
        UnsupportedError, match=r"step Tune: Type = 'Tuning' is not interpreted here\. Supported: Processing"
    ):
        data.run(
            pipeline(processing("First", "true"), condition("Check", compare("Equals", 1, 1), then=[tuning]))
        )
    assert data.events == []


def test_an_image_without_an_interpreter_is_refused_before_anything_runs(data: Cloud) -> None:
    definition = gated()
    definition["Steps"][2]["Arguments"]["AppSpecification"]["ImageUri"] = "other:1"
    with pytest.raises(
        DefinitionError, match=r"step Evaluate: no interpreter stands for image other:1\. Mapped: account"
    ):
        data.run(definition)
    assert data.events == []


def test_a_request_that_aws_would_refuse_is_refused_before_anything_runs(data: Cloud) -> None:
    definition = gated()
    del definition["Steps"][2]["Arguments"]["RoleArn"]
    with pytest.raises(DefinitionError, match=r"step Evaluate\.RoleArn: Member must not be null"):
        data.run(definition)
    assert data.events == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"Unknown": 1},
            r"parameter Unknown: the definition has none of that name\. Known: Raw, Threshold\.",
        ),
        ({"Threshold": "high"}, r"parameter Threshold = 'high': must be of type Float\."),
        ({"Threshold": True}, r"parameter Threshold = True: must be of type Float\."),
        ({"Raw": 7}, r"parameter Raw = 7: must be of type String\."),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_runs(
    data: Cloud, given: dict[str, object], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        data.run(gated(), parameters=given)
    assert data.events == []


# Where a step runs.


def test_script_mode_runs_a_dotted_module_with_sorted_flags_and_sm_variables(data: Cloud) -> None:
    script = (
        "import json, os, pathlib, sys\n"
        "model = pathlib.Path(os.environ['SM_MODEL_DIR'])\n"
        "seen = {'argv': sys.argv[1:], 'rows': pathlib.Path(os.environ['SM_CHANNEL_TRAIN'], 'rows.csv').read_text(),\n"
        "        'hps': json.loads(os.environ['SM_HPS']), 'channels': json.loads(os.environ['SM_CHANNELS']),\n"
        "        'depth': os.environ['SM_HP_MAX_DEPTH'], 'host': os.environ['SM_CURRENT_HOST'],\n"
        "        'cpus': int(os.environ['SM_NUM_CPUS']), 'gpus': os.environ['SM_NUM_GPUS']}\n"
        "(model / 'seen.json').write_text(json.dumps(seen))\n"
        "pathlib.Path(os.environ['SM_OUTPUT_DATA_DIR'], 'note.txt').write_text('done')\n"
        "config = pathlib.Path(os.environ['SM_INPUT_CONFIG_DIR'])\n"
        "print(sorted(path.name for path in config.iterdir()))\n"
    )
    code = data.put("code/abc.tar.gz", archive_of({"package/__init__.py": "", "package/train.py": script}))
    own = {"max_depth": "6", "eta": "0.10", "schema": "flights"}
    toolkit = {
        "sagemaker_program": "package.train",
        "sagemaker_submit_directory": code,
        "sagemaker_region": "us-east-1",
    }
    result = data.run(pipeline(training("Train", hyperparameters=own | toolkit)))
    assert result.status == "Succeeded", result.steps["Train"].failure_reason
    target = f"models/{result.steps['Train'].properties['TrainingJobName']}/output"
    assert data.keys("models/") == [f"{target}/model.tar.gz", f"{target}/output.tar.gz"]
    body = data.s3.get_object(Bucket=BUCKET, Key=f"{target}/model.tar.gz")["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        member = tar.extractfile("seen.json")
        assert member is not None
        assert json.loads(member.read()) == {
            "argv": ["--eta", "0.1", "--max_depth", "6", "--schema", "flights"],
            "rows": "A,B\n",
            "hps": {"max_depth": 6, "eta": 0.1, "schema": "flights"},
            "channels": ["train"],
            "depth": "6",
            "host": "algo-1",
            "cpus": os.cpu_count(),
            "gpus": "0",
        }
    assert data.lines("Train") == ["['hyperparameters.json', 'inputdataconfig.json', 'resourceconfig.json']"]


def test_script_mode_runs_a_script_by_its_file_name(data: Cloud) -> None:
    code = data.put("code.tar.gz", archive_of({"train.py": "import sys; print(sys.argv[1:])"}))
    own = {"sagemaker_program": "train.py", "sagemaker_submit_directory": code, "a": "1"}
    data.run(pipeline(training("Train", hyperparameters=own)))
    assert data.lines("Train") == ["['-a', '1']"]


def test_code_that_is_no_archive_fails_the_step(data: Cloud) -> None:
    code = data.put("code.tar.gz", b"nothing")
    own = {"sagemaker_program": "train.py", "sagemaker_submit_directory": code}
    result = data.run(pipeline(training("Train", hyperparameters=own)))
    assert "code.tar.gz: cannot be unpacked" in result.steps["Train"].failure_reason


def test_a_job_sees_its_own_environment_and_nothing_of_ours(
    data: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "1")
    setting = dataclasses.replace(data.setting, environment={"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    own = {"Environment": {"MODE": "fast", "REPORT": f"{PROCESSING}/output/report"}}
    result = data.run(pipeline(processing("Show", "env", arguments=own)), setting=setting)
    seen = dict(line.partition("=")[::2] for line in data.lines("Show"))
    folder = data.setting.work_dir / result.id / "Show"
    assert seen["MODE"] == "fast"
    assert seen["REPORT"] == f"{folder}/opt/ml/processing/output/report"
    assert seen["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert (seen["HOME"], seen["TMPDIR"]) == (f"{folder}/home", f"{folder}/temporary")
    assert "SECRET_OF_THE_CALLER" not in seen
    assert seen["PROCESSING_JOB_NAME"] == result.steps["Show"].properties["ProcessingJobName"]


def test_python3_is_the_interpreter_that_stands_for_the_image(data: Cloud) -> None:
    data.run(pipeline(processing("Show", "python3 -c 'import sys, moto; print(sys.executable)'")))
    assert Path(data.lines("Show")[0]).parent == next(iter(data.setting.images.values())).parent


def test_a_work_folder_with_a_space_works_in_a_shell(data: Cloud, tmp_path: Path) -> None:
    setting = dataclasses.replace(data.setting, work_dir=tmp_path / "my runs")
    script = f"cat {PROCESSING}/input/raw/*.csv > {PROCESSING}/output/out/copy.csv"
    result = data.run(
        pipeline(processing("Copy", script, inputs={"raw": f"s3://{BUCKET}/raw/"}, outputs=("out",))),
        setting=setting,
    )
    assert result.status == "Succeeded", result.steps["Copy"].failure_reason
    assert data.text(f"s3://{BUCKET}/{result.id}/Copy/out/copy.csv") == "a,b\n"


def test_a_processing_job_finds_its_request_and_its_host_in_opt_ml_config(data: Cloud) -> None:
    data.run(
        pipeline(
            processing(
                "Show", "cat /opt/ml/config/resourceconfig.json /opt/ml/config/processingjobconfig.json"
            )
        )
    )
    shown = "\n".join(data.lines("Show"))
    assert '"current_host": "algo-1"' in shown
    assert '"ProcessingJobName": "pipelines-' in shown


def test_outputs_are_encrypted_with_the_key_of_the_request(data: Cloud) -> None:
    step = processing("Write", f"touch {PROCESSING}/output/out/x", outputs=("out",))
    step["Arguments"]["ProcessingOutputConfig"]["KmsKeyId"] = "alias/own"
    result = data.run(pipeline(step))
    head = data.s3.head_object(Bucket=BUCKET, Key=f"{result.id}/Write/out/x")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "alias/own")


def test_properties_answer_as_describe_does(data: Cloud) -> None:
    message = join(
        get("Steps.Train.TrainingJobName"),
        get("Steps.Train.ModelArtifacts.S3ModelArtifacts"),
        get("Steps.Train.InputDataConfig[0].ChannelName"),
        get("Steps.Register.ModelPackageArn"),
        get("Execution.PipelineName"),
        get("Execution.PipelineExecutionArn"),
        on=" ",
    )
    result = data.run(
        pipeline(
            training("Train", "touch /opt/ml/model/m"), register("Register", "Train"), fail("Show", message)
        ),
        pipeline="Mine",
    )
    name, artifact, channel, package, pipeline_name, arn = result.steps["Show"].failure_reason.split()
    assert artifact == f"s3://{BUCKET}/models/{name}/output/model.tar.gz"
    assert (channel, pipeline_name) == ("train", "Mine")
    assert package.endswith(f"model-package/{GROUP}/1")
    assert (
        arn == result.arn == f"arn:aws:sagemaker:us-east-1:000000000000:pipeline/mine/execution/{result.id}"
    )


def test_a_property_that_is_not_there_fails_the_step(data: Cloud) -> None:
    result = data.run(
        pipeline(training("Train", "true"), fail("Show", get("Steps.Train.DebugHookConfig.S3OutputPath")))
    )
    assert result.steps["Show"].failure_reason == "step Train has no DebugHookConfig.S3OutputPath."


def test_the_current_time_and_the_start_time_are_iso_times(data: Cloud) -> None:
    ordered = compare("LessThan", get("Execution.StartDateTime"), get("Execution.CurrentDateTime"))
    result = data.run(pipeline(condition("Check", ordered, then=[fail("Later", "")])))
    assert list(result.steps) == ["Check", "Later"]


def test_a_pipeline_of_aws_examples_runs_as_the_sdk_v2_wrote_it(cloud: Cloud) -> None:
    """The abalone example's shape: a script as an input, quoted hyperparameters, a count as a parameter."""
    # Code with /opt/ml written into it would see the machine's, so these scripts are told their folder.
    start = "import json, os, pathlib, tarfile\nbase = pathlib.Path(os.environ['BASE'])\n"
    cloud.put(
        "code/preprocess.py",
        start
        + "(base / 'train' / 'train.csv').write_text((base / 'input' / 'abalone.csv').read_text() * 2)\n",
    )
    cloud.put(
        "code/evaluate.py",
        start + "names = tarfile.open(base / 'model' / 'model.tar.gz').getnames()\n"
        "report = {'regression_metrics': {'mse': {'value': len(names)}}}\n"
        "(base / 'evaluation' / 'evaluation.json').write_text(json.dumps(report))\n",
    )
    cloud.put("raw/abalone.csv", "1,2\n")
    train = "import os, pathlib, sys\npathlib.Path(os.environ['SM_MODEL_DIR'], 'model').write_text(' '.join(sys.argv))\n"
    code = cloud.put("code/sourcedir.tar.gz", archive_of({"abalone.py": train}))

    def script_step(name: str, file: str, inputs: Json, output_name: str, **more: Any) -> Json:
        places = {"code": f"s3://{BUCKET}/code/{file}", **inputs}
        step = processing(name, "", inputs=places, outputs=(output_name,), **more)
        for item in step["Arguments"]["ProcessingInputs"]:
            if item["InputName"] != "code":
                item["S3Input"]["LocalPath"] = f"{PROCESSING}/{item['InputName']}"
        step["Arguments"]["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["LocalPath"] = (
            f"{PROCESSING}/{output_name}"
        )
        step["Arguments"]["Environment"] = {"BASE": PROCESSING}
        step["Arguments"]["AppSpecification"]["ContainerEntrypoint"] = [
            "python3",
            f"{PROCESSING}/input/code/{file}",
        ]
        step["Arguments"]["ProcessingResources"]["ClusterConfig"]["InstanceCount"] = get(
            "Parameters.ProcessingInstanceCount"
        )
        return step | {"CacheConfig": {"Enabled": True, "ExpireAfter": "30d"}}

    quoted = {
        "sagemaker_program": '"abalone.py"',
        "sagemaker_submit_directory": f'"{code}"',
        "objective": '"reg:linear"',
    }
    mse = json_get("AbaloneEval", "AbaloneEvaluationReport", "regression_metrics.mse.value")
    result = cloud.run(
        pipeline(
            script_step(
                "AbaloneProcess", "preprocess.py", {"input": get("Parameters.InputDataUrl")}, "train"
            ),
            training(
                "AbaloneTrain", channels={"train": output("AbaloneProcess", "train")}, hyperparameters=quoted
            ),
            script_step(
                "AbaloneEval",
                "evaluate.py",
                {"model": get("Steps.AbaloneTrain.ModelArtifacts.S3ModelArtifacts")},
                "evaluation",
                files={"AbaloneEvaluationReport": "evaluation.json"},
            ),
            condition(
                "AbaloneMSECond",
                compare("LessThanOrEqualTo", mse, 6.0),
                then=[register("AbaloneRegisterModel", "AbaloneTrain")],
            ),
            parameters=[
                parameter("ProcessingInstanceCount", 1, "Integer"),
                parameter("InputDataUrl", f"s3://{BUCKET}/raw/abalone.csv"),
            ],
        ),
        pipeline="AbalonePipeline",
    )
    assert result.status == "Succeeded", {s.name: s.failure_reason for s in result.steps.values()}
    assert list(result.steps) == [
        "AbaloneProcess",
        "AbaloneTrain",
        "AbaloneEval",
        "AbaloneMSECond",
        "AbaloneRegisterModel",
    ]
    assert len(cloud.packages()) == 1
