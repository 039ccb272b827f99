"""The filters of batch transform, by the examples of "Associate Prediction Results with Input Records"."""

from typing import Any

import pytest

from local.cloud.sagemaker.jsonpath import Path, PathError

ROW = ["0", "1", "2", "3", "4", "5", "6"]
RECORD = {"id": {"a": 1, "b": 2}, "features": [3, 4], "SageMakerOutput": {"label": 1}}

# The table of operators, the examples below it, and those of `DataProcessing` (API Reference).
EXAMPLES: list[tuple[str, Any, Any]] = [
    ("$", ROW, ROW),
    ("$[1]", ROW, "1"),
    ("$[-1]", ROW, "6"),
    ("$[1,3,5]", ROW, ["1", "3", "5"]),
    ("$[0,-1]", ROW, ["0", "6"]),
    ("$[1:]", ROW, ["1", "2", "3", "4", "5", "6"]),
    ("$[1:4]", ROW, ["1", "2", "3", "4"]),  # "the second through fifth columns"
    ("$[:5]", ROW, ["0", "1", "2", "3", "4", "5"]),  # "from the first column through the sixth column"
    ("$[5:]", ROW, ["5", "6"]),  # "from the 6th column through the last column"
    ("$[0,5:]", ROW, ["0", "5", "6"]),
    ("$[-2:]", ROW, ["5", "6"]),
    ("$.features", RECORD, [3, 4]),
    ("$.features[1]", RECORD, 4),
    ("$.id", RECORD, {"a": 1, "b": 2}),
    ("$.id.*", RECORD, [1, 2]),
    ("$.features[*]", RECORD, [3, 4]),
    ("$['id']", RECORD, {"a": 1, "b": 2}),
    ("$['features','SageMakerOutput']", RECORD, {"features": [3, 4], "SageMakerOutput": {"label": 1}}),
    ("$.id.['a','b']", RECORD, {"a": 1, "b": 2}),
]


@pytest.mark.parametrize(("path", "record", "selected"), EXAMPLES, ids=[it[0] for it in EXAMPLES])
def test_a_documented_path_selects_what_its_example_says(path: str, record: Any, selected: Any) -> None:
    assert Path(path).select(record) == selected


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("features", "does not begin with"),
        ("$..id", "is none of"),
        ("$[?(@.a > 1)]", "is none of"),
        ("$.id[", "is none of"),
        ("$[1:4:2]", "no slice with a known end"),
        ("$[:-1]", "no slice with a known end"),
    ],
)
def test_what_is_outside_the_documented_subset_is_refused_when_it_is_read(path: str, reason: str) -> None:
    with pytest.raises(PathError, match=reason):
        Path(path)


@pytest.mark.parametrize(
    ("path", "record"),
    [("$[7]", ROW), ("$[0,-8]", ROW), ("$.name", RECORD), ("$.features.a", RECORD), ("$[0]", RECORD)],
)
def test_what_a_record_does_not_have_is_an_error_that_names_the_path(path: str, record: Any) -> None:
    with pytest.raises(PathError) as raised:
        Path(path).select(record)
    assert path in str(raised.value)


def test_only_paths_by_index_fit_csv() -> None:
    fits = {path: Path(path).by_index for path, _, _ in EXAMPLES}
    assert {path for path, fit in fits.items() if not fit} == {
        path for path in fits if "." in path or "'" in path
    }
