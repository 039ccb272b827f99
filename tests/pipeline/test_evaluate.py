"""Evaluate: the registry's format, the model's own threshold and transform, the plots, and what is refused."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.metrics import f1_score, roc_auc_score

from pipeline import curated, evaluate, inference
from pipeline.schema import Schema
from pipeline.step import StepError
from tests.pipeline.conftest import Prepared, archive, run_train


@pytest.fixture(scope="module")
def evaluated(
    prepared: Prepared, xgboost_model: Path, linear_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The output of an evaluation of XGBoost beside the linear baseline."""
    folder = tmp_path_factory.mktemp("evaluated")
    evaluate.main(
        [
            f"--model={archive(xgboost_model, folder / 'model')}",
            f"--baseline={archive(linear_model, folder / 'baseline')}",
            f"--test={prepared.test}",
            f"--output={folder / 'output'}",
        ]
    )
    return folder / "output"


def content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_metrics_stand_where_the_condition_and_the_registry_look(evaluated: Path) -> None:
    for name in ("evaluation", "baseline"):
        group = content(evaluated / f"{name}.json")["binary_classification_metrics"]
        for metric in ("auc", "accuracy", "precision", "recall", "f1"):
            assert 0 <= group[metric]["value"] <= 1
            assert "standard_deviation" in group[metric]
        assert set(group["confusion_matrix"]) == {"0", "1"}
        assert group["receiver_operating_characteristic_curve"]["false_positive_rates"][0] == 0


def test_the_registered_auc_is_what_serving_the_test_rows_would_give(
    evaluated: Path, prepared: Prepared, xgboost_model: Path, flights_schema: Schema
) -> None:
    """Two roads to one figure: Parquet through evaluation, and JSON records through the inference code."""
    table = curated.read(prepared.test, flights_schema)
    names = [column.name for column in flights_schema.request_columns]
    records = table.select(names).to_pylist()
    for record in records:
        record["time_hour"] = record["time_hour"].isoformat()
    model = inference.model_fn(str(xgboost_model))
    request = inference.input_fn(json.dumps(records), "application/json")
    served = inference.predict_fn(request, model)
    labels = curated.label(table, flights_schema, "classification")
    group = content(evaluated / "evaluation.json")["binary_classification_metrics"]
    assert group["auc"]["value"] == pytest.approx(roc_auc_score(labels, served.values), abs=1e-12)
    assert group["f1"]["value"] == pytest.approx(f1_score(labels, served.labels))


def test_the_threshold_comes_with_the_model_not_from_the_test_split(
    evaluated: Path, xgboost_model: Path
) -> None:
    chosen = content(xgboost_model / "metadata.json")["threshold"]
    assert content(evaluated / "evaluation.json")["threshold"] == chosen


def test_each_plot_is_a_picture_with_something_on_it(evaluated: Path) -> None:
    plots = {path.stem for path in evaluated.glob("*.png")}
    assert plots == {"confusion_matrix", "roc", "precision_recall", "calibration"}
    for path in evaluated.glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) >= 600
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 20


def test_two_evaluations_write_the_same_bytes(
    evaluated: Path, prepared: Prepared, xgboost_model: Path, linear_model: Path, tmp_path: Path
) -> None:
    models = [archive(folder, tmp_path / folder.name) for folder in (xgboost_model, linear_model)]
    flags = [f"--model={models[0]}", f"--baseline={models[1]}"]
    evaluate.main([*flags, f"--test={prepared.test}", f"--output={tmp_path / 'output'}"])
    for path in evaluated.iterdir():
        assert path.read_bytes() == (tmp_path / "output" / path.name).read_bytes(), path.name


def test_regression_is_evaluated_without_a_baseline(prepared_regression: Prepared, tmp_path: Path) -> None:
    model = run_train(prepared_regression, tmp_path / "model", "linear", "--problem_type=regression")
    output = tmp_path / "output"
    evaluate.main(
        [
            "--problem-type=regression",
            f"--model={archive(model, tmp_path / 'packed')}",
            f"--test={prepared_regression.test}",
            f"--output={output}",
        ]
    )
    group = content(output / "evaluation.json")["regression_metrics"]
    assert group["rmse"]["value"] ** 2 == pytest.approx(group["mse"]["value"])
    assert {"mae", "r2", "adjusted_r2"} <= set(group)
    assert {path.name for path in output.iterdir()} == {
        "evaluation.json",
        "predicted_vs_true.png",
        "residuals.png",
    }


def refuse(prepared: Prepared, model: Path, output: Path, *flags: str) -> str:
    with pytest.raises(StepError) as caught:
        evaluate.main([f"--model={model}", f"--test={prepared.test}", f"--output={output}", *flags])
    assert not output.exists()
    return str(caught.value)


def test_a_model_of_another_problem_type_is_refused(
    prepared: Prepared, linear_model: Path, tmp_path: Path
) -> None:
    model = archive(linear_model, tmp_path / "m")
    assert "trained for classification, evaluated for regression" in refuse(
        prepared, model, tmp_path / "out", "--problem-type=regression"
    )


def test_a_missing_broken_or_foreign_archive_is_named(prepared: Prepared, tmp_path: Path) -> None:
    assert "model.tar.gz: cannot be unpacked" in refuse(prepared, tmp_path, tmp_path / "out")
    (tmp_path / "model.tar.gz").write_bytes(b"not a tar")
    assert "model.tar.gz: cannot be unpacked" in refuse(prepared, tmp_path, tmp_path / "out")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as packed:
        packed.add(prepared.transform / "summary.json", "summary.json")
    whole = (tmp_path / "model.tar.gz").read_bytes()
    (tmp_path / "model.tar.gz").write_bytes(whole[:-20])
    assert "model.tar.gz: cannot be unpacked" in refuse(prepared, tmp_path, tmp_path / "out")
    (tmp_path / "model.tar.gz").write_bytes(whole)
    assert "holds no metadata.json" in refuse(prepared, tmp_path, tmp_path / "out")


def test_a_model_without_its_trees_is_refused(prepared: Prepared, linear_model: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as packed:
        for name in ("metadata.json", "transform.json"):
            packed.add(linear_model / name, name)
    assert "neither model.json nor linear.json" in refuse(prepared, tmp_path, tmp_path / "out")


def test_a_test_split_of_one_class_is_refused(prepared: Prepared, linear_model: Path, tmp_path: Path) -> None:
    table = pq.read_table(prepared.test / "data.parquet")
    late = pa.array([60] * table.num_rows, table.schema.field("arr_delay").type)
    test = tmp_path / "test"
    test.mkdir()
    pq.write_table(
        table.set_column(table.column_names.index("arr_delay"), "arr_delay", late), test / "data.parquet"
    )
    packed = archive(linear_model, tmp_path / "m")
    assert f"test split: all {table.num_rows} labels are 1. Both classes are needed" in refuse(
        prepared._replace(test=test), packed, tmp_path / "out"
    )
    regression = ["--problem-type=regression"]
    assert "trained for classification" in refuse(
        prepared._replace(test=test), packed, tmp_path / "out", *regression
    )


def test_an_empty_test_split_is_refused(prepared: Prepared, linear_model: Path, tmp_path: Path) -> None:
    empty = tmp_path / "test"
    empty.mkdir()
    pq.write_table(pq.read_table(prepared.test / "data.parquet").slice(0, 0), empty / "data.parquet")
    with pytest.raises(StepError, match="without a row"):
        evaluate.main([f"--model={archive(linear_model, tmp_path / 'm')}", f"--test={empty}"])
