"""What the embedded cloud implements has a caller, and the table says which."""

import ast

import pytest

from tools import operations


@pytest.mark.parametrize(
    ("operation", "caller"),
    [
        (("glue", "GetDataQualityResult"), "pipeline/quality.py"),
        (("sagemaker", "ListModelPackages"), "README.md"),
        (("sagemaker", "DeleteEndpointConfig"), "tools/destroy.py"),
        (("sagemaker", "UpdateEndpoint"), "`AWS::SageMaker::Endpoint`"),
        (
            ("application-autoscaling", "DescribeScalingPolicies"),
            "`AWS::ApplicationAutoScaling::ScalingPolicy`",
        ),
        (("sagemaker", "StopTrainingJob"), "the definition: Training"),
        (("sagemaker", "ListPipelineExecutionSteps"), "the SDK's `PipelineExecution`"),
    ],
)
def test_a_caller_is_found_where_it_calls(operation: tuple[str, str], caller: str) -> None:
    assert caller in operations.callers([operation])[operation]


def test_an_operation_that_nobody_calls_is_an_orphan() -> None:
    assert operations.orphans([("glue", "GetTable"), ("glue", "StartBlueprintRun")]) == [
        "glue: StartBlueprintRun"
    ]


def test_comments_and_docstrings_call_nothing() -> None:
    source = '''"""start_crawler"""

def run(glue):
    """stop_crawler"""
    glue.start_job_run()  # batch_stop_job_run
    "get_job"
    return getattr(glue, "list_jobs")
'''
    assert operations.names_in_code(ast.parse(source)) == {"start_job_run", "list_jobs"}


def test_a_document_calls_by_commands_alone() -> None:
    text = "After get-job-run, `aws glue start-job-run --job-name x  # stop-crawler` and `aws sagemaker wait done-so`."
    assert operations.commands(text) == {("glue", "start-job-run"), ("sagemaker", "done-so")}


def test_every_operation_here_has_a_caller() -> None:
    assert operations.orphans(operations.implemented()) == []


def test_every_type_here_is_in_a_template() -> None:
    assert operations.types() - operations.types_in_use() == set()


def test_the_committed_table_is_what_is_there() -> None:
    assert operations.TABLE.read_text() == operations.page(), "write it again: make operations"
