"""MiniStack still has each private name that `local/cloud` uses, and functions have the parameters that we rely on.

The names are found in the source. Whoever calls or replaces a function adds its leading parameters here.
"""

import json
import re
import subprocess

import pytest

from local.cloud.lifecycle import PYTHON
from local.cloud.place import ROOT

NAMES: dict[str, str | None] = {
    # authorization
    "iam_actions.access_denied_response": "service action principal_arn request_id",
    "iam_actions.extract_iam_action": "service method path headers body query_params",
    "iam_actions.extract_resource_arn": "service method path headers body query_params region account_id",
    "iam_actions.identity_denial_message": "action principal_arn resource explicit_deny",
    "iam_actions.request_tag_context": "service iam_action body params",
    "iam_actions.s3_service_context": "iam_action query_params path headers",
    "iam_evaluator.AuthError": None,
    "iam_evaluator.enforce": "access_key_id iam_action service region resource_arn service_context",
    "iam_evaluator.is_root_access_key": "access_key_id",
    "iam_evaluator.pin_request_origin": "source_ip secure_transport",
    "iam_evaluator.resolve_caller_identity": "access_key_id",
    "kinesis._shard_iterators": None,
    "kinesis._streams": None,
    "kms._resolve_key": "key_id_or_arn",
    "lambda_svc._emit_lambda_logs": "func request_id log_text error duration_ms log_source",
    "lambda_svc._get_func_record_for_qualifier": "name qualifier",
    "lambda_svc._iter_all_esms": "",
    "s3._bucket_default_sse_headers": "bucket_name",
    "s3._buckets": None,
    "s3._multipart_uploads": None,
    "s3._stored_sse_headers": "obj",
    "sns._topics": None,
    "sqs._queue_by_arn": "arn",
    "sqs._queues": None,
    "sqs._receive_messages_for_esm": "queue_url max_number",
    "sts.register_session": "access_key session",
    "tagging._RESOURCE_TAG_COLLECTORS": None,
    "tagging.resource_tags": "arn",
    # roles
    "stack_helpers._error": "code message status",
    "iam._roles": None,
    # sagemaker
    "responses.error_response_json": "code message status extra",
    "router.extract_access_key_id": "headers query_params",
    "tagging._COLLECTORS": None,
    # glue
    "app.SERVICE_HANDLERS": None,
    "cloudwatch_logs._log_groups": None,
    "glue._crawlers": None,
    "glue._create_crawler": "data",
    "glue._create_job": "data",
    "glue._create_trigger": "data",
    "glue._job_runs": None,
    "glue._jobs": None,
    "glue._tags": None,
    "glue._triggers": None,
    "glue._workflow_runs": None,
    "glue._workflows": None,
    "glue.handle_request": "method path headers body query_params",
    # resources
    "drift._DRIFT_READERS": None,
    "ec2._vpce_fields_xml": "ep tag",
    "provisioners._NAME_SEED": None,
    "provisioners._cw_metric_alarm_record": "name props",
    "provisioners._physical_name": "stack_name logical_id",
    "s3._delete_bucket": "name",
    "stack_handlers._evaluate_conditions": "template params",
    "stack_handlers._resolve_stack": "stack_name",
    "stacks.CLIENT_REQUEST_TOKEN": None,
    "stacks._add_event": "stack_id stack_name logical_id resource_type status reason",
    "stacks._runs_on_worker_thread": "resource_type",
    # iam_report
    "iam_evaluator.EvalResult": "decision principal_arn",
    "iam_evaluator.EvalContext": "principal_arn principal_type principal_account action resource_arn region",
    "iam_evaluator.evaluate": "ctx policies",
    "iam_evaluator.parse_policy_document": "doc",
    # alarms
    "cloudwatch._alarms": None,
    "cloudwatch._calc_stats": "points",
    "cloudwatch._dims_key": "dims",
    "cloudwatch._dispatch_alarm_actions": "alarm old_state new_state reason",
    "cloudwatch._evaluate_alarm": "alarm",
    "cloudwatch._metrics": None,
    "cloudwatch._record_history": "alarm_name old_state new_state reason",
    "cloudwatch._stat_value": "stats stat_name points",
    # archive
    "firehose._HANDLERS": None,
    "firehose._streams": None,
    # events
    "eventbridge._SCHEDULER_TICK_INTERVAL": None,
    "eventbridge._apply_input_transformer": "transformer rule view",
    "eventbridge._cron_next_fire": "fields after_dt",
    "eventbridge._dispatch_to_lambda": "arn payload",
    "eventbridge._dispatch_to_sns": "arn payload",
    "eventbridge._invoke_target": "target event rule view",
    "eventbridge._parse_cron_fields": "expr",
    "eventbridge._parse_rate_seconds": "expr",
    "eventbridge._pattern_event_view": "event",
    "eventbridge._put_events": "data allow_aws_source",
    "iam_evaluator._resource_policy": "service resource_arn",
    "iam_evaluator.evaluate_resource_policy": "doc ctx service",
    "scheduler._SCHEDULE_TICK_INTERVAL": None,
    "sqs._act_send_message": "data qurl",
    # metrics
    "cloudwatch.record_metric": "namespace metric_name value unit dimensions",
    "kinesis._put_record": "data",
    "kinesis._put_records": "data",
    "lambda_svc._emit_lambda_metrics": "function_name duration_ms error throttle",
    # stream
    "firehose.ingest_from_kinesis_source": "stream_arn records",
    "lambda_svc._esms": None,
    "lambda_svc._execute_function": "func event",
    "lambda_svc._poll_kinesis": "",
    "lambda_svc._run_sqs_batch": "esm func_rec event batch",
}
SOURCE = "\n".join(file.read_text() for file in (ROOT / "local/cloud").rglob("*.py"))
USED = sorted(
    {f"{module}.{name}" for module, name in re.findall(r"\bseams\.(\w+)\.(\w+)", SOURCE)}
    | {f"{module}.{name}" for module, name in re.findall(r"replace\(\s*seams\.(\w+),\s*\"(\w+)\"", SOURCE)}
    # replaced in each module that imports it by name
    | {f"{module}._add_event" for module in ("changesets", "stack_handlers", "stacks")}
    | {f"{module}._evaluate_conditions" for module in ("changesets", "stack_handlers", "stacks")}
)
# Prints, for each name, its parameters, None for what is not callable, and nothing for what does not exist.
LOOK = """
import inspect, json, sys
from local.cloud import seams
found = {}
for name in json.load(sys.stdin):
    module, _, attribute = name.partition(".")
    if hasattr(getattr(seams, module), attribute):
        value = getattr(getattr(seams, module), attribute)
        found[name] = list(inspect.signature(value).parameters) if callable(value) else None
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def ministack(tmp_path_factory) -> dict[str, list[str] | None]:
    home = tmp_path_factory.mktemp("seams")
    environment = {"HOME": str(home), "TMPDIR": str(home), "STATE_DIR": str(home), "S3_DATA_DIR": str(home)}
    done = subprocess.run(
        [PYTHON, "-c", LOOK],
        cwd=ROOT,
        env=environment,
        input=json.dumps([*NAMES, *USED]),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[str] | None] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(("name", "parameters"), NAMES.items(), ids=list(NAMES))
def test_ministack_has(ministack, name, parameters) -> None:
    assert name in ministack
    if parameters is not None:
        expected = parameters.split()
        assert ministack[name][: len(expected)] == expected


@pytest.mark.parametrize("name", USED)
def test_ministack_has_what_is_used(ministack, name) -> None:
    assert name in ministack
