"""Parses the filters, sort orders and cursors of list requests into a `Query`."""

import base64
import dataclasses
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NoReturn
from uuid import UUID

from dspex.error_text import shorten, suggest
from dspex.operations.framework.attribute_kinds import ATTRIBUTE_KINDS, Comparison
from dspex.operations.framework.field_errors import invalid
from dspex.operations.framework.resource import Attribute, Filter, Resource
from dspex.operations.framework.store import Match, Query, Sort

MAX_PAGE = 200
MAX_MEMBERS = 100
_ID_EXAMPLE = "an id such as 01a204e7-d265-770f-a3da-97f8004ff7a9"


def query_from(
    resource: Resource[Any], pairs: Iterable[tuple[str, str]], *, first: int = 50
) -> Query:
    """Return the query for text parameters.

    They are `first`, `after`, `sort` ("-cost_usd"), and filters by name. A filter whose name ends
    in `_in` may be repeated; any other parameter is given once.

    Raises:
        InvalidError: a name is unknown, or its value is invalid; the message contains the name.
    """
    texts: dict[str, str] = {}
    members: dict[str, list[str]] = {}
    names = ["first", "after", "sort", *resource.filters]
    for name, text in pairs:
        if name not in names:
            _refuse(
                name,
                text,
                f"there is no such filter.{suggest(name, names)}",
                f"one of: {', '.join(names)}",
            )
        if name in resource.filters and resource.filters[name].comparison == "in":
            members.setdefault(name, []).append(text)
        elif name in texts:
            _refuse(name, text, "the parameter is given twice", "one value")
        else:
            texts[name] = text
    limit = _page_size(texts.pop("first")) if "first" in texts else first
    sort = sort_of(resource, texts.pop("sort")) if "sort" in texts else None
    query = Query(limit=limit, sort=sort)
    if "after" in texts:
        query = continue_after(resource, query, texts.pop("after"))
    values: dict[str, Any] = {
        name: _parse(resource.filters[name], text) for name, text in texts.items()
    }
    values |= {
        name: [_parse(resource.filters[name], text) for text in member_texts]
        for name, member_texts in members.items()
    }
    return dataclasses.replace(query, where=where_of(resource, values))


def where_of(
    resource: Resource[Any], values: Iterable[tuple[str, Any]] | dict[str, Any]
) -> dict[str, Any]:
    """Return `Query.where` for filter values by filter name.

    Raises:
        InvalidError: a filter is unknown, or its value is not valid for the attribute; the message
            names the filter.
    """
    where: dict[str, list[tuple[Comparison, Any]]] = {}
    for name, value in dict(values).items():
        list_filter = resource.filters.get(name)
        if list_filter is None:
            _refuse(
                name,
                value,
                f"there is no such filter.{suggest(name, resource.filters)}",
                "a filter of the list",
            )
        where.setdefault(list_filter.attribute.name, []).append(
            (list_filter.comparison, _check(list_filter, value))
        )
    return {name: _shortest(comparisons) for name, comparisons in where.items()}


def _shortest(comparisons: list[tuple[Comparison, Any]]) -> Any:
    [(comparison, value), *rest] = comparisons
    return value if comparison in {"eq", "in"} and not rest else Match(tuple(comparisons))


def sort_of(resource: Resource[Any], text: str) -> Sort:
    """Parse a sort order: an attribute name, with a leading minus for descending order.

    Raises:
        InvalidError: the attribute does not exist or is not sortable.
    """
    name = text.removeprefix("-")
    if name not in resource.sortable:
        sortable = list(resource.sortable)
        plural = resource.plural.replace("_", " ")
        message = (
            f"{plural} cannot be sorted by {shorten(name)}.{suggest(name, sortable)} Use one of: "
            f"{', '.join(sortable)}"
        )
        _refuse(
            "sort",
            text,
            message,
            f"one of: {', '.join(sortable)}; a leading minus sorts in descending order",
        )
    return Sort(name, is_descending=text.startswith("-"))


def cursor_of(row: Any, sort: Sort | None) -> str:
    """Return the cursor of a row: its id, plus the value of the sort attribute if there is one."""
    if sort is None:
        return str(row.id)
    value = getattr(row, sort.attribute)
    json_value = value.isoformat() if isinstance(value, datetime) else value
    text = json.dumps([_order_name(sort), json_value, str(row.id)], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def continue_after(resource: Resource[Any], query: Query, cursor: str) -> Query:
    """Return `query` continued after a cursor of the same sort order.

    Raises:
        InvalidError: it is not a cursor, or it belongs to another sort order.
    """
    if query.sort is None:
        return dataclasses.replace(query, after=id_from(cursor, "after"))
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        [order_name, value, key] = json.loads(
            base64.b64decode(padded, altchars=b"-_", validate=True)
        )
        after = UUID(key)
        value = _parse_sort_value(resource.sortable[query.sort.attribute], value)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        _refuse(
            "after",
            cursor,
            f"{shorten(cursor)} is not a cursor of this sort order",
            "a cursor of a page in this order",
        )
    if order_name != _order_name(query.sort):
        _refuse(
            "after",
            cursor,
            f"the cursor belongs to the sort order {shorten(order_name)}",
            f"one of {_order_name(query.sort)!r}",
        )
    return dataclasses.replace(query, after=after, after_value=value)


def _order_name(sort: Sort) -> str:
    return f"-{sort.attribute}" if sort.is_descending else sort.attribute


def _parse_sort_value(attribute: Attribute, value: Any) -> Any:
    """Return the sort value in a cursor; raise if the server cannot have issued it."""
    if value is None and attribute.is_nullable:
        return None
    kind = ATTRIBUTE_KINDS[attribute.kind]
    return kind.check(kind.from_json(value))


def id_from(text: str, name: str) -> UUID:
    """Parse an id.

    Raises:
        InvalidError: `text` is not an id.
    """
    try:
        return UUID(text)
    except (ValueError, AttributeError, TypeError):
        _refuse(name, text, f"{shorten(text)} is not an id", _ID_EXAMPLE)


def _page_size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 4 or not 1 <= int(text) <= MAX_PAGE:
        _refuse(
            "first",
            text,
            f"a page has 1 to {MAX_PAGE} elements, not {shorten(text)}",
            f"1 to {MAX_PAGE}",
        )
    return int(text)


def _parse(list_filter: Filter, text: str) -> Any:
    kind = "flag" if list_filter.comparison == "is_null" else list_filter.attribute.kind
    if kind == "uuid":
        return id_from(text, list_filter.name)
    parse, expected = ATTRIBUTE_KINDS[kind].parse, ATTRIBUTE_KINDS[kind].expected
    try:
        return parse(text)
    except (ValueError, OverflowError, KeyError):
        _refuse(list_filter.name, text, f"{shorten(text)} is not {expected}", expected)


def _check(list_filter: Filter, value: Any) -> Any:
    """Return a value for the store, checked so that every database can compare with it."""
    if list_filter.comparison == "in":
        if len(value) > MAX_MEMBERS:
            _refuse(
                list_filter.name,
                len(value),
                f"{len(value)} values are too many",
                f"at most {MAX_MEMBERS} values",
            )
        return tuple([_check_one(list_filter, member) for member in value])
    return value if list_filter.comparison == "is_null" else _check_one(list_filter, value)


def _check_one(list_filter: Filter, value: Any) -> Any:
    attribute = list_filter.attribute
    try:
        if attribute.choices and value not in attribute.choices:
            raise ValueError(f"one of: {', '.join(attribute.choices)}")  # noqa: TRY301
        return ATTRIBUTE_KINDS[attribute.kind].check(value)
    except ValueError as error:
        _refuse(list_filter.name, value, f"{shorten(value)} is not {error}", str(error))


def _refuse(name: str, value: object, message: str, expected: str) -> NoReturn:  # noqa: PLR0917
    raise invalid(name, value, expected, message=message, constraint="list")
