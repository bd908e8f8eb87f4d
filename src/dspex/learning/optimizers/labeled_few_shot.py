"""Demonstrations taken from labelled rows as they are."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from dspex.argument_values import Count
from dspex.arguments import checks_names
from dspex.errors import DefinitionError
from dspex.execution.adapters import read_row
from dspex.language.programs import Node
from dspex.language.records import Example
from dspex.learning.optimizers.options import (
    TRIALS,
    OptimizerEntry,
    short_text,
    whole_number,
)
from dspex.learning.optimizers.proposer import Additions, Candidate, Proposer, Result, Task

_MOST = 16  # demonstrations by default, as in dspy


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class LabeledFewShot:
    """Tries several random sets of labelled rows as demonstrations.

    Rows are drawn evenly over the classes, and shown in rounds of one row for each class: a model
    that leans to what it saw last then leans to no class for long.

    Args:
        k: demonstrations in all; by default 16, but at most half of the training rows, so that the
            others can score them.
        per_class: demonstrations for each class instead; decides over `k`.
        by: the field that holds the class; the only closed choice among the outputs by default.
            Without any, rows are drawn regardless of class.
        candidates: how many sets are tried.
    """

    k: Count | None = None
    per_class: Count | None = None
    by: str | None = None
    candidates: Count = 8

    def start(self, task: Task) -> Proposer:
        """Begin a search over sets of demonstrations.

        Raises:
            DefinitionError: no demonstration slot fits the rows, or no row would be left to score
            on.
        """
        slots = labelled_slots(task)
        groups = _groups(task, self.by or _class_field(task))
        count = self._count(task, groups)
        if count >= len(task.train):
            raise DefinitionError(
                f"{count} demonstrations of the {len(task.train)} rows leave none to score on; ask "
                "for fewer demonstrations or give more rows"
            )
        return _Sets(self._sets(task, groups, slots=slots, count=count))

    def runs(self, task: Task, rows: int) -> int:
        """Return at most how many times the program will run."""
        del task
        return self.candidates * rows

    def additions(self, task: Task) -> Additions:
        """Return the number of demonstrations in a set."""
        groups = _groups(task, self.by or _class_field(task))
        return Additions(demonstrations=self._count(task, groups))

    def _count(self, task: Task, groups: Sequence[Sequence[int]]) -> int:
        if self.per_class is not None:
            return self.per_class * len(groups)
        if self.k is not None:
            return min(self.k, len(task.train))
        return max(1, min(_MOST, len(task.train) // 2))

    def _sets(
        self, task: Task, groups: Sequence[Sequence[int]], *, slots: Sequence[str], count: int
    ) -> Iterator[Candidate]:
        earlier: set[tuple[int, ...]] = set()
        for number in range(self.candidates * 4):  # small data: the same set may come up again
            if len(earlier) == self.candidates:
                return
            indexes = tuple(islice(_rounds(groups, random.Random(f"{task.seed}/{number}")), count))
            if indexes in earlier:
                continue
            earlier.add(indexes)
            demos = [demonstration(task, task.train[index]) for index in indexes]
            yield Candidate(
                label=f"labelled demonstrations, set {number}",
                assignment=dict.fromkeys(slots, demos),
                shown=frozenset(indexes),
            )


ENTRY = OptimizerEntry(
    create=LabeledFewShot,
    options={
        "k": whole_number(1, 256, optional=True),
        "per_class": whole_number(0, 256, optional=True, flag="per_class"),
        "by": short_text(200),
        "candidates": TRIALS,
    },
)


class _Sets:
    def __init__(self, sets: Iterator[Candidate]) -> None:
        self._sets = sets

    def ask(self, count: int) -> Sequence[Candidate]:
        return list(islice(self._sets, count))

    def tell(self, results: Sequence[Result]) -> None:
        del results


def labelled_slots(task: Task) -> list[str]:
    """Return the variables that take training rows as demonstrations.

    All fields of their nodes are fields of the rows.

    Raises:
        DefinitionError: there are none.
    """
    nodes = {node.id: node for node in task.program.root.walk()}
    fitting = [
        variable.name
        for variable in task.program.space.values()
        if variable.kind == "examples"
        and any(_fits(nodes.get(path.rpartition(".")[0]), task) for path in variable.paths)
    ]
    if not fitting:
        raise DefinitionError(
            f"no module of {task.program.name!r} takes rows of {', '.join(task.train.fields)} as "
            "demonstrations: every output of a module has to be a field of the rows"
        )
    return fitting


def _fits(node: Node | None, task: Task) -> bool:
    if node is None or node.signature is None:
        return False
    return set(node.signature.fields) <= set(task.train.fields)


def demonstration(task: Task, example: Example) -> dict[str, Any]:
    """Return a row as a typed demonstration: the fields of the program or of one of its parts."""
    row: dict[str, Any] = dict(example)
    fields: set[str] = set()
    for node in task.program.root.walk():
        if node.signature is not None:
            fields |= set(node.signature.fields)
            row = read_row(node.signature, row)
    return {name: value for name, value in row.items() if name in fields}


def _class_field(task: Task) -> str | None:
    names = [
        name
        for name, field in task.program.signature.output_fields.items()
        if field.type.kind in {"atom", "bool"} and name in task.train.fields
    ]
    return names[0] if len(names) == 1 else None


def _groups(task: Task, by: str | None) -> list[list[int]]:
    if by is None:
        return [list(range(len(task.train)))]
    groups: dict[str, list[int]] = {}
    for index, value in enumerate(task.train.column(by)):
        groups.setdefault(str(value), []).append(index)
    return list(groups.values())


def _rounds(groups: Sequence[Sequence[int]], rng: random.Random) -> Iterator[int]:
    """Yield rows in rounds over the groups, whose order is kept, each group in random order."""
    shuffled = [rng.sample(group, len(group)) for group in groups]
    for rank in range(max(map(len, shuffled))):
        yield from (group[rank] for group in shuffled if rank < len(group))
