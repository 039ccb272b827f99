"""Train: what it writes, what it refuses, and that the same data gives the same model."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss, root_mean_squared_error

from pipeline import estimators, hyperparameters, predictors, schema, train
from pipeline.estimators import Split
from pipeline.schema import ProblemType, Schema
from pipeline.step import StepError
from tests.pipeline.conftest import Prepared, run_train

ROOT = Path(__file__).parents[2]


def normal(rows: int, features: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, features)).astype(np.float32)


def test_a_model_folder_needs_nothing_but_itself(xgboost_model: Path) -> None:
    files = {
        str(path.relative_to(xgboost_model))
        for path in xgboost_model.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"  # of a test that has loaded it
    }
    assert files == {
        "model.json",
        "transform.json",
        "schema.json",
        "metadata.json",
        "code/inference.py",
        *(f"code/pipeline/{name}" for name in train.CODE),
    }


def test_the_shipped_code_loads_and_predicts_with_only_its_own_folder_on_the_path(
    xgboost_model: Path, tmp_path: Path, request_record: dict[str, object]
) -> None:
    code = (
        "import sys, json, inference, pipeline\n"
        "assert pipeline.__file__.startswith(sys.argv[1]), pipeline.__file__\n"
        "model = inference.model_fn(sys.argv[1])\n"
        "request = inference.input_fn(sys.argv[2], 'application/json')\n"
        "print(inference.output_fn(inference.predict_fn(request, model), 'application/json')[0])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(xgboost_model), json.dumps(request_record)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(xgboost_model / "code"), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0 < json.loads(ran.stdout)["predictions"][0]["score"] < 1


def test_shipped_modules_import_no_other_module_of_ours(xgboost_model: Path) -> None:
    shipped = {path.stem for path in (xgboost_model / "code" / "pipeline").iterdir()}
    for path in (xgboost_model / "code").rglob("*.py"):
        for line in path.read_text().splitlines():
            if line.startswith("from pipeline import "):
                assert {
                    name.strip() for name in line.removeprefix("from pipeline import ").split(",")
                } <= shipped
            elif line.startswith("from pipeline."):
                assert line.split()[1].removeprefix("pipeline.") in shipped


def test_the_model_says_what_it_is(xgboost_model: Path, linear_model: Path, flights_schema: Schema) -> None:
    for folder, estimator in ((xgboost_model, "xgboost"), (linear_model, "linear")):
        metadata = json.loads((folder / "metadata.json").read_text())
        assert metadata["estimator"] == estimator
        assert metadata["problem_type"] == "classification"
        assert 0 < metadata["threshold"] < 1
        assert metadata["versions"]["xgboost"] == xgboost.__version__
        assert schema.load(str(folder / "schema.json")) == flights_schema


@pytest.mark.parametrize("estimator", ["xgboost", "linear"])
def test_training_twice_writes_the_same_model(prepared: Prepared, tmp_path: Path, estimator: str) -> None:
    name = {"xgboost": "model.json", "linear": "linear.json"}[estimator]
    first, second = (run_train(prepared, tmp_path / n, estimator) / name for n in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_both_estimators_find_the_signal_in_real_flights(xgboost_model: Path, linear_model: Path) -> None:
    for folder in (xgboost_model, linear_model):
        assert json.loads((folder / "metadata.json").read_text())["metrics"]["validation"]["auc"] > 0.6


@pytest.mark.parametrize("estimator", ["xgboost", "linear"])
def test_both_estimators_do_regression(prepared_regression: Prepared, tmp_path: Path, estimator: str) -> None:
    folder = run_train(prepared_regression, tmp_path, estimator, "--problem_type=regression")
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["threshold"] is None
    split = train.read_split(prepared_regression.validation)
    rmse = metadata["metrics"]["validation"]["rmse"]
    assert rmse < 1.05 * split.y.std()
    predicted = predictors.load(folder)(split.x)
    assert np.sqrt(((predicted - split.y) ** 2).mean()) == pytest.approx(rmse, rel=1e-5)


def test_metric_lines_have_the_form_that_sagemaker_is_told_to_read(
    prepared: Prepared, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_train(prepared, tmp_path, "linear")
    printed = capfd.readouterr().out
    assert "[0]\ttrain-logloss:0." in printed
    assert "\nvalidation-auc:0." in printed
    assert "\ntrain-auc:0." in printed


def test_boosting_stops_when_validation_no_longer_improves_and_keeps_the_best_round() -> None:
    x = normal(600, 3)
    y = (x[:, 0] + normal(600, 1)[:, 0] > 0).astype(np.float32)
    noise = Split(normal(200, 3), (normal(200, 5)[:, 4] > 0).astype(np.float32))
    parameters = hyperparameters.parse(
        "xgboost", {"early_stopping_rounds": "5", "eta": "0.3", "min_child_weight": "5"}
    )
    booster = estimators.fit_xgboost(Split(x, y), noise, "classification", parameters)
    losses = [
        log_loss(noise.y, booster.inplace_predict(noise.x, iteration_range=(0, n)))
        for n in range(1, booster.num_boosted_rounds() + 1)
    ]
    assert len(losses) < 190
    assert min(losses) == losses[-1]


def test_trees_without_a_split_are_refused_with_what_prevents_it() -> None:
    """Separable rows, too few for the default that many flights call for."""
    x = normal(400, 2)
    part = Split(x, (x[:, 0] > 0).astype(np.float32))
    with pytest.raises(
        StepError, match=r"min_child_weight = 200: .* 400 training rows, .*Lower min_child_weight"
    ):
        train.train((part, part), "classification", "xgboost", hyperparameters.parse("xgboost", {}))
    lower = hyperparameters.parse("xgboost", {"min_child_weight": "1"})
    _, metadata = train.train((part, part), "classification", "xgboost", lower)
    assert metadata["metrics"]["validation"]["auc"] > 0.99


@pytest.mark.parametrize("objective", ["binary:logistic", "reg:squarederror"])
def test_the_call_of_xgboosts_c_api_answers_as_its_python_function_does(objective: str) -> None:
    x = normal(500, 5)
    x[x > 1] = np.nan
    booster = xgboost.train(
        {"objective": objective, "seed": 0}, xgboost.DMatrix(x, np.nan_to_num(x[:, 0]) > 0), 20
    )
    predict = predictors.boosted(booster)
    for matrix in (x, x[:1], x[:0], np.asfortranarray(x), x[::-2]):
        expected = booster.inplace_predict(matrix, validate_features=False)
        np.testing.assert_array_equal(predict(matrix), expected, strict=True)


def test_a_prediction_stays_what_it_was_when_the_next_one_is_made() -> None:
    x = normal(50, 2)
    predict = predictors.boosted(xgboost.train({}, xgboost.DMatrix(x, x[:, 0]), 5))
    first = predict(x)
    before = first.copy()
    assert not np.array_equal(predict(-x), before)
    np.testing.assert_array_equal(first, before)


def test_threads_that_predict_at_the_same_time_each_get_their_own_answer() -> None:
    x = normal(16_000, 5)
    predict = predictors.boosted(xgboost.train({}, xgboost.DMatrix(x, x[:, 0]), 20))
    parts = np.split(x, 16)
    expected = np.split(predict(x), 16)
    with ThreadPoolExecutor(8) as threads:
        for _ in range(20):
            np.testing.assert_array_equal(list(threads.map(predict, parts)), expected)


def test_a_matrix_of_other_columns_than_the_trees_were_trained_on_is_refused() -> None:
    predict = predictors.boosted(xgboost.train({}, xgboost.DMatrix(normal(50, 2), normal(50, 1)), 1))
    with pytest.raises(xgboost.core.XGBoostError, match="Number of columns in data must equal"):
        predict(normal(1, 3))


@pytest.mark.parametrize("problem_type", ["classification", "regression"])
def test_sgd_reaches_the_exact_linear_solution(problem_type: ProblemType) -> None:
    # Different scales, an offset and a rare category: what plain SGD stumbles over.
    x = normal(4000, 4) * np.array([1, 100, 0.01, 0], dtype=np.float32) + np.array(
        [0, 500, 0, 0], dtype=np.float32
    )
    x[7, 3] = 1
    signal = x[:, 0] - (x[:, 1] - 500) / 100 + 50 * x[:, 2] + 2 * x[:, 3] + normal(4000, 1)[:, 0]
    classify = problem_type == "classification"
    y = (signal > 0.5).astype(np.float32) if classify else (signal * 40).astype(np.float32)
    parts = (Split(x[:3000], y[:3000]), Split(x[3000:], y[3000:]))
    lines: list[str] = []
    state = estimators.fit_linear(
        *parts, problem_type, hyperparameters.parse("linear", {}), report=lines.append
    )
    predict = predictors.linear(state)
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    if classify:
        logistic = LogisticRegression(C=1e6).fit(scaled[:3000], y[:3000])
        exact = [logistic.predict_proba(part)[:, 1] for part in (scaled[:3000], scaled[3000:])]
    else:
        least_squares = LinearRegression().fit(scaled[:3000], y[:3000])
        exact = [least_squares.predict(part) for part in (scaled[:3000], scaled[3000:])]
    loss = log_loss if classify else root_mean_squared_error
    for part, best in zip(parts, exact, strict=True):
        assert loss(part.y, predict(part.x)) < 1.02 * loss(part.y, best)
    assert len(lines) in {state["epoch"] + 1 + estimators.PATIENCE, 20}


def test_the_linear_model_fills_a_missing_value_with_the_training_mean() -> None:
    x = normal(500, 2)
    x[:100, 1] = np.nan
    y = (x[:, 0] > 0).astype(np.float32)
    state = estimators.fit_linear(
        Split(x, y), Split(x, y), "classification", hyperparameters.parse("linear", {}), report=lambda _: None
    )
    predict = predictors.linear(state)
    mean = np.nanmean(x[:, 1])
    assert state["means"][1] == pytest.approx(mean, rel=1e-5)
    missing = predict(np.array([[1.0, np.nan]], dtype=np.float32))
    assert missing == pytest.approx(predict(np.array([[1.0, mean]], dtype=np.float32)), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("eta", "0", "must be a number above 0 to 1"),
        ("eta", "1.5", "must be a number above 0 to 1"),
        ("eta", "nan", "must be a number above 0 to 1"),
        ("num_round", "0", "must be a whole number from 1 to 10000"),
        ("num_round", "2.5", "must be a whole number from 1 to 10000"),
        ("num_round", "1_000", "must be a whole number from 1 to 10000"),
        ("num_round", " 5 ", "must be a whole number from 1 to 10000"),
        ("eta", "0_1.0", "must be a number above 0 to 1"),
        ("max_depth", "deep", "must be a whole number from 1 to 20"),
        ("subsample", "", "must be a number above 0 to 1"),
        ("device", "tpu", "must be one of cpu, cuda"),
        ("alpha", "0.1", "estimator xgboost has none of that name. It has: num_round"),
    ],
)
def test_a_wrong_hyperparameter_is_one_message_with_name_value_and_range(
    name: str, text: str, reason: str
) -> None:
    with pytest.raises(StepError) as caught:
        hyperparameters.parse("xgboost", {name: text})
    assert str(caught.value).startswith(f"hyperparameter {name} = {text}: ")
    assert reason in str(caught.value)


def test_hyperparameters_keep_their_types_and_defaults() -> None:
    found = hyperparameters.parse("xgboost", {"num_round": "7", "eta": "1", "min_child_weight": "1e2"})
    assert found == {name: p.default for name, p in hyperparameters.HYPERPARAMETERS["xgboost"].items()} | {
        "num_round": 7,
        "eta": 1.0,
        "min_child_weight": 100.0,
    }


def test_a_feature_may_be_called_label_too(tmp_path: Path) -> None:
    columns = [pa.array([1.0, 2.0]), pa.array([0.0, 1.0])]
    pq.write_table(pa.Table.from_arrays(columns, names=["label", "label"]), tmp_path / "data.parquet")
    split = train.read_split(tmp_path)
    assert (split.x.ravel().tolist(), split.y.tolist()) == ([1, 2], [0, 1])


def test_it_runs_as_a_script_on_sagemakers_variables_and_leaves_its_reason(
    prepared: Prepared, tmp_path: Path
) -> None:
    """The container contract without any toolkit: SM_* variables in, exit code and /opt/ml/output/failure out."""
    environment = {
        "PATH": os.environ["PATH"],
        "SM_CHANNEL_TRAIN": str(prepared.train),
        "SM_CHANNEL_VALIDATION": str(prepared.validation),
        "SM_CHANNEL_TRANSFORM": str(prepared.transform),
        "SM_MODEL_DIR": str(tmp_path / "model"),
        "SM_OUTPUT_DIR": str(tmp_path),
    }

    def run(*flags: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline.train", "--estimator", "linear", "--epochs", "2", *flags]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    failed = run("--alpha", "-1")
    assert failed.returncode == 1
    assert failed.stderr.strip() == (tmp_path / "failure").read_text()
    assert failed.stderr.startswith("hyperparameter alpha = -1: ")
    assert not (tmp_path / "model").exists()
    assert run().returncode == 0
    assert (tmp_path / "model" / "linear.json").exists()


def test_a_missing_channel_is_named(prepared: Prepared, tmp_path: Path) -> None:
    for name in ("train", "validation"):
        with pytest.raises(StepError, match=r"absent/data.parquet: cannot be read"):
            run_train(prepared._replace(**{name: tmp_path / "absent"}), tmp_path, "linear")
    with pytest.raises(StepError, match=r"transform\.json: no such file"):
        run_train(prepared._replace(transform=tmp_path), tmp_path, "linear")


def test_a_split_of_one_class_or_no_row_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    table = pq.read_table(prepared.train / "data.parquet")
    same = table.set_column(
        table.num_columns - 1, "label", pa.array(np.ones(table.num_rows, dtype=np.float32))
    )
    for content, reason in ((same, "train channel: all labels are 1"), (table.slice(0, 0), "no row")):
        pq.write_table(content, tmp_path / "data.parquet")
        with pytest.raises(StepError, match=reason):
            run_train(prepared._replace(train=tmp_path), tmp_path / "model", "linear")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(predictors.ModelError, match=r"neither model.json nor linear.json"):
        predictors.load(tmp_path)
