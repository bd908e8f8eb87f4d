"""What optimizers that reflect share: the variables they change, and what they read of a run."""

import json
from typing import Any

from dspex.errors import DefinitionError
from dspex.language.variables.sampling import options
from dspex.learning.evaluation import Row
from dspex.learning.optimizers.instructions import instruction_variables
from dspex.learning.optimizers.proposer import Task, Trial


def changeable_variables(task: Task, *, demonstrations: int) -> list[str]:
    """Return the variables that can vary: instructions, demonstrations, and searchable values.

    Raises:
        DefinitionError: there are none.
    """
    texts = dict(instruction_variables(task))
    names = [
        name
        for name, variable in task.program.space.items()
        if name in texts
        or (variable.kind == "examples" and variable.paths and demonstrations)
        or (variable.is_searchable and len(options(variable)) != 1)
    ]
    if not names:
        raise DefinitionError(
            f"nothing in {task.program.name!r} can vary: declare a variable, or allow "
            "demonstrations"
        )
    return names


def row_scores(trial: Trial) -> dict[int, float]:
    """Return the first metric of each row by its place; a failed row has none."""
    scores = {place: row.score for place, row in enumerate(trial.report.rows)}
    return {place: score for place, score in scores.items() if score is not None}


def feedback(row: Row) -> str:
    """Return what a reflection reads of a row, as JSON."""
    data: dict[str, Any] = {"row": row.example.to_dict(), "answer": row.outputs}
    data |= {"score": row.score} if row.error is None else {"error": row.error}
    data |= {"reasons": dict(row.reasons)} if row.reasons else {}
    return json.dumps(data, ensure_ascii=False, default=str)
