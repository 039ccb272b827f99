"""What a batch transform writes of each record: an output filter, and the columns of an answer that it can choose from.

Source: "Associate Prediction Results with Input Records" (SageMaker AI Developer Guide).
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from stacks.section import matching


def _known_end(csv_filter: str) -> str:
    """Refuse a slice that ends at a column counted from the end.

    A slice of batch transform includes its end where JSONPath's own leaves it out, and the guide shows none that is
    counted from the end: nobody knows which columns it would choose.
    """
    if found := re.search(r":-\d+", csv_filter):
        raise ValueError(
            f"{csv_filter}: the slice ends at {found[0][1:]}, counted from the end, and which columns AWS would take is "
            "not documented. Count its end from the front, or leave it open."
        )
    return csv_filter


# The part of JSONPath that batch transform knows, which for CSV is indexes and slices; the length is that of
# "DataProcessing" (SageMaker API Reference).
CsvFilter = Annotated[
    str,
    Field(max_length=63),
    matching(
        r"\$(\[(-?\d+(,-?\d+)*|(-?\d+)?:(-?\d+)?)\])?",
        "must be $, or columns of it, e.g. $[0], $[0,-1] or $[1:].",
    ),
    AfterValidator(_known_end),
]


def check(output_filter: str, problem_type: str) -> None:
    """Raise `ValueError` if the filter counts past the answer from the end.

    The answer stands behind the record, and how many columns it has depends on the model (pipeline/inference.py). The
    record's own columns are counted from the front: a number from the end would choose another one of them with another
    kind of model.
    """
    answer = ("score", "label") if problem_type == "classification" else ("value",)
    columns = f"{len(answer)} columns" if len(answer) > 1 else "one column"
    for number in map(int, re.findall(r"-\d+", output_filter)):
        if number < -len(answer):
            raise ValueError(
                f"batch.output_filter = {output_filter}: a model of {problem_type} answers with {columns} "
                f"({', '.join(answer)}), and {number}, counted from the end, is a column of the input. Count those "
                f"from the front, and the answer from {-len(answer)}."
            )
