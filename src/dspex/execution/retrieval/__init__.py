"""Finding passages: chunks, conditions, indexes in memory, and the protocol of retrievers.

`modules` and everything above may import it.
"""

from dspex.execution.retrieval.chunker import Chunk, Chunker
from dspex.execution.retrieval.chunkers import CHUNKERS, chunker_settings, parse_chunker
from dspex.execution.retrieval.fusion import fuse
from dspex.execution.retrieval.retriever import Retriever, Searchable, SearchMode, SearchResult
from dspex.execution.retrieval.where import Condition, Where

__all__ = [
    "CHUNKERS",
    "Chunk",
    "Chunker",
    "Condition",
    "Retriever",
    "SearchMode",
    "SearchResult",
    "Searchable",
    "Where",
    "chunker_settings",
    "fuse",
    "parse_chunker",
]
