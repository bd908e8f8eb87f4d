"""Retrieval: what finds passages, chunkers, conditions on metadata, and readers of files.

`dspex.Collection` holds documents in memory, and `dspex.Retrieve` and `dspex.RAG` search it. Any
object with `name` and `async search(query, k, where)` is a retriever.
"""

from dspex.execution.retrieval.chunker import Chunk, Chunker
from dspex.execution.retrieval.chunkers import (
    CodeChunker,
    MarkdownChunker,
    RecursiveChunker,
    SentenceChunker,
    parse_chunker,
)
from dspex.execution.retrieval.fusion import fuse
from dspex.execution.retrieval.readers import SourceDocument, parse_file, read_files
from dspex.execution.retrieval.retriever import Reranker, Retriever, Searchable, SearchResult
from dspex.execution.retrieval.where import Condition, Where
from dspex.language.records.passage import Passage
from dspex.language.signatures.content import Cited

__all__ = [
    "Chunk",
    "Chunker",
    "Cited",
    "CodeChunker",
    "Condition",
    "MarkdownChunker",
    "Passage",
    "RecursiveChunker",
    "Reranker",
    "Retriever",
    "SearchResult",
    "Searchable",
    "SentenceChunker",
    "SourceDocument",
    "Where",
    "fuse",
    "parse_chunker",
    "parse_file",
    "read_files",
]
