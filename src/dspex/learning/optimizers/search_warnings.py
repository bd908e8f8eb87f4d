"""Warnings about the rows of a search and about its outcome."""

import math
from collections.abc import Iterator, Mapping, Sequence

from dspex.error_text import quantity
from dspex.errors import DefinitionError
from dspex.learning.evaluation import Dataset, Report
from dspex.learning.optimizers.limits import Limit
from dspex.learning.optimizers.proposer import Task

FEW_ROWS = 5


def search_warnings(
    task: Task, *, validation: Dataset | None, test: Dataset | None
) -> Iterator[str]:
    """Yield warnings: one class only, the same rows in two splits, very few rows.

    Raises:
        DefinitionError: a split has no rows.
    """
    yield from _one_class(task, task.train, "training")
    splits = {"validation": validation, "test": test}
    splits_so_far = {"training": task.train}
    for label, rows in splits.items():
        if rows is None:
            continue
        if not len(rows):
            raise DefinitionError(f"the {label} split has no rows")
        if len(rows) < FEW_ROWS:
            yield f"the {label} split is too small to tell anything ({quantity(len(rows), 'row')})"
        elif label == "test":
            yield from _one_class(task, rows, "test")
        inputs = [name for name in task.program.signature.input_fields if name in rows.fields]
        for earlier_label, earlier_rows in splits_so_far.items():
            shared = [name for name in inputs if name in earlier_rows.fields]
            if duplicates := earlier_rows.duplicates(rows, fields=shared):
                yield (
                    f"the {earlier_label} rows contain {quantity(len(duplicates), 'row')} of the "
                    f"{label} split (the first: row {duplicates[0][1]})"
                )
        splits_so_far[label] = rows
    if len(task.train) < FEW_ROWS:
        few = quantity(len(task.train), "row")
        yield f"the training split is too small to choose between candidates ({few})"


def _one_class(task: Task, rows: Dataset, label: str) -> Iterator[str]:
    for name in task.program.signature.output_fields:
        if name in rows.fields and len(rows) > 1 and len(set(map(repr, rows.column(name)))) == 1:
            consequence = "learned" if label == "training" else "measured"
            yield (
                f"every {label} row has the same {name!r}, so nothing can be {consequence} about it"
            )


def failure_warnings(reports: Mapping[str, Report]) -> Iterator[str]:
    """Yield a warning for each report with failed rows; `reports` maps labels to reports."""
    for label, report in reports.items():
        if report.failed:
            first = next(row.error for row in report.rows if row.error is not None)
            yield (
                f"{report.failed} of {quantity(len(report.rows), 'row')} of {label} failed and "
                f"count as the worst; the first error was: {first}"
            )


def missed_limit(limit: Limit, candidates: Sequence[Mapping[str, float]]) -> str:
    """Describe a limit that no candidate meets, with the best figure that any reached."""
    values = [
        figures[limit.figure] for figures in candidates if not math.isnan(figures[limit.figure])
    ]
    reached = f"{(min if limit.is_upper else max)(values):.3g}" if values else "unknown"
    return f"{limit} (the best of {len(candidates)} candidates reached {reached})"
