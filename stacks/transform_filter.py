"""What a batch transform writes of each record: an output filter, and the columns of an answer that it can choose from.

Source: "Associate Prediction Results with Input Records" (SageMaker AI Developer Guide).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

# The part of JSONPath that batch transform knows, which for CSV is indexes and slices; the length is that of
# "DataProcessing" (SageMaker API Reference).
CsvFilter = Annotated[str, Field(pattern=r"^\$(\[(-?\d+(,-?\d+)*|(-?\d+)?:(-?\d+)?)\])?$", max_length=63)]


def check(output_filter: str, problem_type: str) -> None:
    """Raise `ValueError` if the filter counts past the answer from the end, or ends before it.

    The answer stands behind the record, and how many columns it has depends on the model (pipeline/inference.py). The
    record's own columns are counted from the front: a number from the end would choose another one of them with another
    kind of model.
    """
    answer = ("score", "label") if problem_type == "classification" else ("value",)
    start, colon, end = output_filter.removeprefix("$").strip("[]").partition(":")
    columns = f"{len(answer)} columns" if len(answer) > 1 else "one column"
    said = (
        f"batch.output_filter = {output_filter}: a model of {problem_type} answers with {columns} "
        f"({', '.join(answer)}), and"
    )
    for number in _numbers(start):
        if number < -len(answer):
            raise ValueError(
                f"{said} {number}, counted from the end, is a column of the input. Count those from the front, and the "
                f"answer from {-len(answer)}."
            )
    if colon and any(number <= -len(answer) for number in _numbers(end) if number < 0):
        raise ValueError(
            f"{said} nothing before {end} is an answer. End the slice later, or leave its end open."
        )


def _numbers(text: str) -> Sequence[int]:
    return [int(number) for number in re.findall(r"-?\d+", text)]
