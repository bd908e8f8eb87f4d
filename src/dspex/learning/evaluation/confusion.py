"""Which labels a program confuses: expected by answered, field by field."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dspex.learning.evaluation.plain import plain
from dspex.learning.evaluation.report import Row
from dspex.markup import value_text

MOST_LABELS = 12
_LONGEST_LABEL = 60
OTHER = "(other)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """The rows of each pair of an expected and an answered label of one field.

    `expected` has the most frequent label first; `answered` has the same labels, then labels that
    were never expected.
    """

    field: str
    expected: tuple[str, ...]
    answered: tuple[str, ...]
    rows: Mapping[tuple[str, str], Sequence[Row]]

    def count(self, expected: str, answered: str) -> int:
        """Return the number of rows with this pair of labels."""
        return len(self.rows.get((expected, answered), ()))

    def total(self, expected: str) -> int:
        """Return the number of rows with this expected label."""
        return sum(self.count(expected, answer) for answer in self.answered)

    def recall(self, label: str) -> float:
        """Return the share of the rows with this expected label that were answered with it."""
        return self.count(label, label) / self.total(label)

    def mistakes(self) -> list[tuple[str, str, int]]:
        """Return the pairs of different labels with their counts, the most frequent first."""
        pairs = [(*pair, len(rows)) for pair, rows in self.rows.items() if pair[0] != pair[1]]
        return sorted(pairs, key=lambda pair: -pair[2])


def confusions(rows: Sequence[Row]) -> list[Confusion]:
    """Return the confusion of each field whose expected values are labels.

    Values are labels if there are at least two, each short and on average in two rows. Failed rows
    are left out.
    """
    answered = [row for row in rows if row.outputs is not None]
    names = dict.fromkeys(name for row in answered for name in row.outputs or {})
    found = (_confusion(name, answered) for name in names)
    return [confusion for confusion in found if confusion is not None]


def _confusion(field: str, rows: Sequence[Row]) -> Confusion | None:
    pairs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if field in row.example and field in (row.outputs or {}):
            pair = (label_of(row.example[field]), label_of((row.outputs or {})[field]))
            pairs.setdefault(pair, []).append(row)
    sizes = Counter(label for (label, _), members in pairs.items() for _ in members)
    is_long = any(len(label) > _LONGEST_LABEL or "\n" in label for label in sizes)
    if is_long or not 2 <= len(sizes) <= sizes.total() / 2:
        return None
    expected = [label for label, _ in sizes.most_common()]
    strange = Counter(answer for (_, answer), members in pairs.items() for _ in members)
    extra = [label for label, _ in strange.most_common() if label not in sizes]
    answers = (*expected, *extra)
    if len(expected) <= MOST_LABELS < len(answers):
        answers = (*answers[: max(MOST_LABELS - 1, len(expected))], OTHER)
        pairs = _merge(pairs, frozenset(answers))
    return Confusion(field=field, expected=tuple(expected), answered=answers, rows=pairs)


def _merge(
    pairs: Mapping[tuple[str, str], Sequence[Row]], answers: frozenset[str]
) -> dict[tuple[str, str], list[Row]]:
    merged: dict[tuple[str, str], list[Row]] = {}
    for (expected, answer), rows in pairs.items():
        merged.setdefault((expected, answer if answer in answers else OTHER), []).extend(rows)
    return merged


def label_of(value: object) -> str:
    """Return a value as text to compare and show; texts without surrounding white space."""
    try:
        return value_text(plain(value)).strip()
    except ValueError:  # no JSON form
        return str(value).strip()
