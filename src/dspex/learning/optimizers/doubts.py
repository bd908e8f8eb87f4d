"""What is doubtful about the rows of a search, and about what came of it."""

import math
from collections.abc import Iterator, Mapping, Sequence

from dspex.errors import DefinitionError
from dspex.learning.evaluation import Dataset, Report
from dspex.learning.optimizers.limits import Limit
from dspex.learning.optimizers.proposer import Task

FEW_ROWS = 5


def doubts(task: Task, *, validation: Dataset | None, test: Dataset | None) -> Iterator[str]:
    """Yield warnings: one class only, the same rows in two splits, very few rows.

    Raises:
        DefinitionError: a split has no rows.
    """
    yield from _one_class(task, task.train, "training")
    splits = {"validation": validation, "test": test}
    known = {"training": task.train}
    for label, rows in splits.items():
        if rows is None:
            continue
        if not len(rows):
            raise DefinitionError(f"the {label} split has no rows")
        if len(rows) < FEW_ROWS:
            yield f"{len(rows)} rows of the {label} split say next to nothing"
        elif label == "test":
            yield from _one_class(task, rows, "test")
        inputs = [name for name in task.program.signature.input_fields if name in rows.fields]
        for other, seen in known.items():
            if twice := seen.duplicates(rows, fields=[name for name in inputs if name in seen.fields]):
                yield f"{len(twice)} rows of the {label} split are {other} rows too (the first: row {twice[0][1]})"
        known[label] = rows
    if len(task.train) < FEW_ROWS:
        yield f"{len(task.train)} training rows are too few to choose by"


def _one_class(task: Task, rows: Dataset, label: str) -> Iterator[str]:
    for name in task.program.signature.output_fields:
        if name in rows.fields and len(rows) > 1 and len(set(map(repr, rows.column(name)))) == 1:
            what = "nothing can be learned" if label == "training" else "nothing can be told"
            yield f"every {label} row has the same {name!r}: {what} about it"


def failures(reports: Mapping[str, Report]) -> Iterator[str]:
    """Yield a warning for each report, by what it is of, with failed rows."""
    for label, report in reports.items():
        if report.failed:
            first = next(row.error for row in report.rows if row.error is not None)
            yield (
                f"{report.failed} of {len(report.rows)} rows of {label} failed and count as the worst; the first error "
                f"was: {first}"
            )


def missed(limit: Limit, candidates: Sequence[Mapping[str, float]]) -> str:
    """Return a limit that no candidate keeps, with the best figure of any."""
    known = [figures[limit.figure] for figures in candidates if not math.isnan(figures[limit.figure])]
    reached = f"{(min if limit.is_upper else max)(known):.3g}" if known else "unknown"
    return f"{limit} (the best of {len(candidates)} candidates reached {reached})"
