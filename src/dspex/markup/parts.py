"""The parts that pages and notebooks share: tables, facts, folded text, values."""

import json
from collections.abc import Iterable, Mapping, Sequence

from dspex.markup.elements import Content, Markup, clean, element, join

_LONG = 700
_PREVIEW = 240


def table(
    head: Sequence[Content], rows: Iterable[Sequence[Content]], *, numeric: Iterable[int] = ()
) -> Markup:
    """Return a table whose first column names the rows; `numeric` columns are set to the right."""
    right = frozenset(numeric)

    def cell(name: str, place: int, content: Content, **attributes: str) -> Markup:
        return element(name, content, class_="number" if place in right else None, **attributes)

    heads = [cell("th", place, content, scope="col") for place, content in enumerate(head)]
    lines = [
        element(
            "tr",
            *(
                cell("td", place, content) if place else cell("th", place, content, scope="row")
                for place, content in enumerate(row)
            ),
        )
        for row in rows
    ]
    body = element("table", element("thead", element("tr", heads)), element("tbody", lines))
    return element("div", body, class_="scroll", tabindex=0, role="group", aria_label="Table")


def facts(values: Mapping[str, Content]) -> Markup:
    """Return names and values as a description list; values that are None are left out."""
    pairs = (
        element("div", element("dt", name), element("dd", value))
        for name, value in values.items()
        if value is not None
    )
    return element("dl", *pairs, class_="facts")


def badge(text: str, tone: str = "") -> Markup:
    """Return a short label; `tone` is "good", "bad", "warn" or empty."""
    return element("span", text, class_=f"badge {tone}".strip())


def folded(summary: Content, content: Content, *, is_open: bool = False) -> Markup:
    """Return content behind a summary that unfolds it."""
    return element("details", element("summary", summary), content, open=is_open)


def preformatted(text: str, *, is_diff: bool = False) -> Markup:
    """Return text with its line breaks; the lines of a unified diff are marked."""
    lines = clean(text).split("\n")
    content = join(*(_diff_line(line) for line in lines)) if is_diff else "\n".join(lines)
    return element("pre", content, tabindex=0, class_="diff" if is_diff else None)


def _diff_line(line: str) -> Markup:
    mark = line.lstrip()[:1]
    name = {"+": "ins", "-": "del"}.get(mark, "span")
    is_head = line.startswith(("+++ ", "--- ", "@@"))
    # the line break is inside, so that lines are blocks and copied text has them
    return element("span" if is_head else name, line, "\n", class_="head" if is_head else None)


def value_text(value: object) -> str:
    """Return a value as people read it: text unchanged, data as indented JSON, None as nothing."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, indent=2)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def shown_value(content: Markup, length: int, preview: str = "") -> Markup:
    """Return a value in its own writing direction; a long one is folded behind its beginning."""
    text = element("span", content, class_="value", dir="auto")
    if length <= _LONG:
        return text
    start = clean(preview)[:_PREVIEW].rstrip()
    return folded(
        [element("span", start, dir="auto", class_="preview"), f" … {length:,} characters"], text
    )
