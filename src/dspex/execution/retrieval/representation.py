"""Collections and results of searches in notebooks."""

from collections.abc import Mapping

from dspex.error_text import quantity
from dspex.execution.retrieval.retriever import SearchResult
from dspex.language.records.representation import value_cell
from dspex.markup import element, fragment, table

SHOWN = 8


def search_html(result: SearchResult) -> str:
    """Return the passages with their scores, the best first."""
    rows = [
        (f"{passage.score:.3f}", passage.document or passage.id, value_cell(passage.text))
        for passage in result
    ]
    searched = "" if result.scanned is None else f" of {quantity(result.scanned, 'chunk')}"
    lead = element("p", f"{quantity(len(result), 'passage')}{searched}")
    return fragment(lead, table(("score", "document", "text"), rows) if rows else None)


def collection_html(name: str, texts: Mapping[str, str], *, count: int) -> str:
    """Return the name, the number of documents, and the first of them by key."""
    more = f"; the first {len(texts)}:" if count > len(texts) else ""
    head = (element("span", name, class_="name"), f", {quantity(count, 'document')}{more}")
    rows = [(key, value_cell(text)) for key, text in texts.items()]
    return fragment(element("p", *head), table(("document", "text"), rows) if rows else None)
