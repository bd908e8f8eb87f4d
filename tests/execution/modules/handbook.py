"""A collection at the top level of a file, for programs that are stored."""

from dspex.execution.collection import Collection
from dspex.execution.modules.rag import RAG
from dspex.testing.retrievers import DOCUMENTS

handbook = Collection.from_rows(
    [{"key": key, "text": text, **metadata} for key, (text, metadata) in DOCUMENTS.items()],
    name="handbook",
    embedder="hash",
)
ask = RAG("question -> answer: Cited", handbook, k=2)
