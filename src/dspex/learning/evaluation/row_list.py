"""The rows of a report as a list that readers filter: expected and answered, word by word."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dspex.failures import frames_text
from dspex.language.records import Example
from dspex.learning.evaluation.confusion import MOST_LABELS, Confusion, label_of
from dspex.learning.evaluation.report import Row
from dspex.markup import Markup, badge, element, join, marked_words, shown_value, table

_LEVELS = 5
_SAME = element("span", "✓", class_="same", role="img", aria_label="as expected")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One example in the list, and the row of each program that answered it by the program's name.

    `status` is a key of the list's statuses.
    """

    answers: Mapping[str, Row]
    status: str

    @property
    def row(self) -> Row:
        """The row of the last program."""
        return list(self.answers.values())[-1]


def row_id(row: Row) -> str:
    """Return the anchor of a row."""
    return f"row-{row.index}" + (f"-{row.repeat}" if row.repeat else "")


def row_list(entries: Sequence[Entry], statuses: Mapping[str, str], *, order: str) -> Markup:
    """Return the list with its filters.

    Args:
        entries: in the order to show them.
        statuses: the tone of each status, in the order of the filters.
        order: describes the order of `entries`.
    """
    counts = Counter(entry.status for entry in entries)
    choices = {"all": ("", len(entries))}
    choices |= {name: (name, counts[name]) for name in statuses if counts[name]}
    outputs = {name for entry in entries for name in _output_names(entry)}
    items = (_item(entry, outputs, tone=statuses[entry.status]) for entry in entries)
    return join(_filters(choices, order), element("ol", *items, class_="rows", id="rows"))


def _filters(choices: Mapping[str, tuple[str, int]], order: str) -> Markup:
    radios = [
        element(
            "label",
            element("input", type="radio", name="status", value=value, checked=not value),
            element("span", f"{name} {count}"),
            class_="choice",
        )
        for name, (value, count) in choices.items()
    ]
    orders = {"worst": order, "number": "order of the data", "seconds": "slowest first"}
    options = [element("option", text, value=key) for key, text in orders.items()]
    return element(
        "form",
        element("fieldset", element("legend", "Show rows by result"), radios),
        element("input", type="search", placeholder="Search rows", aria_label="Search rows"),
        element("select", options, aria_label="Order of the rows"),
        element("button", type="button", hidden=True),
        element("output", class_="count"),
        class_="filters",
        data_list="rows",
        aria_label="Filter rows",
        hidden=True,
    )


def _item(entry: Entry, outputs: Collection[str], *, tone: str) -> Markup:
    row = entry.row
    inputs = {name: value for name, value in row.example.items() if name not in outputs}
    names = [name for name in row.example if name in outputs and name not in _output_names(entry)]
    return element(
        "li",
        element("div", _summary(entry, tone), class_="of"),
        element("div", element("h3", "inputs" if outputs else "row"), _plain_fields(inputs)),
        element("div", element("h3", "answers"), _answers(entry, [*_output_names(entry), *names])),
        id=row_id(row),
        data_status=entry.status,
        data_number=row.index,
        data_seconds=round(row.seconds, 4),
    )


def _output_names(entry: Entry) -> list[str]:
    return list(dict.fromkeys(name for row in entry.answers.values() for name in row.outputs or {}))


def _summary(entry: Entry, tone: str) -> Iterator[Markup]:
    row = entry.row
    run = f", run {row.repeat + 1}" if row.repeat else ""
    yield element("a", f"row {row.index}{run}", href=f"#{row_id(row)}")
    yield badge(entry.status, tone)
    names = dict.fromkeys(name for row in entry.answers.values() for name in row.scores)
    for name in names:
        scores = [_score(row.scores.get(name)) for row in entry.answers.values()]
        yield element("span", f"{name} {' → '.join(scores)}")
    tokens = f", {row.usage.total_tokens:,} tokens" if row.usage.total_tokens else ""
    yield element("span", f"{row.seconds:.2f} s{tokens}")


def _score(score: float | None) -> str:
    return "\u2013" if score is None else f"{score:.3g}"


def _plain_fields(values: Mapping[str, object]) -> Markup:
    pairs = ((element("dt", name), element("dd", _value(value))) for name, value in values.items())
    return element("dl", *pairs, class_="fields") if values else element("p", "none", class_="note")


def _value(value: object, content: Markup | None = None) -> Markup:
    text = label_of(value)
    return shown_value(content if content is not None else join(text), len(text), text)


def _answers(entry: Entry, names: Sequence[str]) -> Markup:
    expected = entry.row.example
    fields = [(element("dt", name), *_lines(name, expected, entry.answers)) for name in names]
    fields += [
        (
            element("dt", f"{name} {_score(row.scores.get(name))}"),
            _line(who if len(entry.answers) > 1 else "reason", _value(reason)),
        )
        for who, row in entry.answers.items()
        for name, reason in row.reasons.items()
    ]
    errors = [
        _error(f"{who}: {row.error}" if len(entry.answers) > 1 else row.error, row)
        for who, row in entry.answers.items()
        if row.error is not None
    ]
    return join(element("dl", fields, class_="fields") if fields else None, errors)


def _error(text: str, row: Row) -> Markup:
    """Return an error, and below it the lines of the user's code that it passed."""
    frames = element("code", frames_text(row.frames)) if row.frames else None
    return element("div", element("p", text), frames, class_="error")


def _lines(name: str, example: Example, answers: Mapping[str, Row]) -> Iterator[Markup]:
    values = {
        who: row.outputs[name]
        for who, row in answers.items()
        if row.outputs is not None and name in row.outputs
    }
    if name not in example:
        for who, value in values.items():
            yield _line(who, _value(value))
        return
    expected = label_of(example[name])
    wrong = [who for who, value in values.items() if label_of(value) != expected]
    if values and not wrong:
        yield _line(" and ".join(values), _value(example[name]), _SAME)
        return
    marked = marked_words(expected, label_of(values[wrong[-1]]))[0] if len(values) == 1 else None
    yield _line("expected", _value(example[name], marked))
    for who, value in values.items():
        is_wrong = who in wrong
        marked = marked_words(expected, label_of(value))[1] if is_wrong else None
        yield _line(who, _value(value, marked), None if is_wrong else _SAME)


def _line(who: str, value: Markup, mark: Markup | None = None) -> Markup:
    label = element("span", who, mark and " ", mark, class_="who")
    return element("dd", label, value, class_="line")


def confusion_section(confusion: Confusion) -> Markup:
    """Return a confusion as a matrix whose cells filter the rows; of many labels, the mistakes."""
    heading = element("h3", confusion.field)
    if len(confusion.expected) > MOST_LABELS:
        mistakes = confusion.mistakes()[:MOST_LABELS]
        rows = [(expected, answer, count) for expected, answer, count in mistakes]
        note = f"{len(confusion.expected)} labels; the most frequent mistakes"
        listed = table(("expected", "answered", "rows"), rows, numeric=(2,))
        return element("div", heading, element("p", note, class_="note"), listed)
    return element("div", heading, _matrix(confusion))


def _matrix(confusion: Confusion) -> Markup:
    most = max(map(len, confusion.rows.values()))
    heads = [element("th", _label(name), scope="col") for name in confusion.answered]
    recall = element("th", "recall", scope="col")
    lines = [
        element(
            "tr",
            element("th", _label(expected), scope="row"),
            *(
                element("td", _cell(confusion, expected, name, most=most))
                for name in confusion.answered
            ),
            element("td", f"{confusion.recall(expected):.2f}", class_="total number"),
        )
        for expected in confusion.expected
    ]
    body = element(
        "table",
        element("thead", element("tr", element("td"), heads, recall)),
        element("tbody", lines),
        class_="matrix",
    )
    label = f"Confusion matrix of {confusion.field}"
    return element("div", body, class_="scroll", tabindex=0, role="group", aria_label=label)


def _label(text: str) -> Markup:
    short = text if len(text) <= 40 else f"{text[:39]}…"
    return element("bdi", short or "(empty)")


def _cell(confusion: Confusion, expected: str, answer: str, *, most: int) -> Markup:
    rows = confusion.rows.get((expected, answer), ())
    if not rows:
        return element("span", "0", class_="none")
    kind = "right" if expected == answer else "wrong"
    return element(
        "button",
        str(len(rows)),
        type="button",
        disabled=True,
        class_=f"{kind} heat-{max(1, round(_LEVELS * len(rows) / most))}",
        aria_label=f"{confusion.field}: expected {expected or '(empty)'}, answered "
        f"{answer or '(empty)'}, rows: {len(rows)}",
        aria_pressed="false",
        data_rows=" ".join(map(row_id, rows)),
    )
