"""Retrievers of dspy in a worker, and imported programs that keep theirs."""

import asyncio
import json

import pytest

from dspex.errors import (
    BudgetError,
    ConfigurationError,
    DefinitionError,
    DspexError,
    InputError,
)
from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig
from dspex.execution.backends.dspy_bridge.retriever import DspyRetriever
from dspex.execution.clients import Budget
from dspex.execution.context import RunContext, use_context
from dspex.execution.modules.retrieve import Retrieve
from dspex.execution.workers import PoolConfig
from dspex.models import HashingEmbedder
from dspex.testing import ScriptedModel

pytestmark = pytest.mark.bridge
POOL = PoolConfig(name="dspy", minimum=1, maximum=1)


def config(interpreter: str, folder: str) -> DspyConfig:
    return DspyConfig(interpreter=interpreter, pool=POOL, paths=(folder,))


async def test_embeddings_modules_and_functions_search(newest: str, folder: str) -> None:
    async with asyncio.timeout(120), DspyBackend(config(newest, folder)) as bridge:
        first = await DspyRetriever("searches:embeddings", bridge).search("return a lamp", 1)
        assert [(row.text, row.id, row.score) for row in first] == [
            ("You can return a lamp.", "0", 1.0)
        ]
        by_words = DspyRetriever("searches:ByWords", bridge, init={"limit": 1})
        (passage,) = await by_words.search("a", 3)
        assert (passage.id, passage.score) == ("0", 0.5)
        retrieve = Retrieve(DspyRetriever("searches:function", bridge), k=2, query="question")
        prediction = await retrieve.acall(RunContext(), question="we open at ten")
        assert [passage.text for passage in prediction.passages] == [
            "We accept credit cards.",
            "Shops open at nine.",
        ]
        assert "retrieval" in [span.kind for span in prediction.trace.spans]


async def test_what_is_wrong_is_an_error(newest: str, folder: str) -> None:
    async with asyncio.timeout(120), DspyBackend(config(newest, folder)) as bridge:
        with pytest.raises(InputError, match="has no filters"):
            await DspyRetriever("searches:function", bridge).search("a", 1, {"year": 2020})
        with pytest.raises(DspexError, match="is not a retriever of dspy but int"):
            await DspyRetriever("searches:broken", bridge).search("a")
        with pytest.raises(DspexError, match="cannot import 'searches:missing'"):
            await DspyRetriever("searches:missing", bridge).search("a")


async def test_an_imported_program_keeps_its_retrievers(newest: str, folder: str) -> None:
    model = ScriptedModel("[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]")
    async with asyncio.timeout(120), DspyBackend(config(newest, folder)) as bridge:
        program = await bridge.import_program("searches:Rag")
        handle = await bridge.create_program(program)
        prediction = await bridge.execute_program(
            handle, {"question": "return a lamp"}, RunContext(model=model)
        )
    assert prediction.answer == "yes"
    prompt = model.requests[0].messages[-1].content
    assert "You can return a lamp." in prompt
    assert "We accept credit cards." in prompt


async def test_embedders_by_name_are_those_of_the_parent(newest: str, folder: str) -> None:
    embedder = HashingEmbedder(64)
    budget = Budget(tokens=10_000)
    context = RunContext(embedders={"openai/mine": embedder}.__getitem__, budget=budget)
    async with asyncio.timeout(120), DspyBackend(config(newest, folder)) as bridge:
        retrieve = Retrieve(DspyRetriever("searches:Named", bridge), k=1)
        with use_context(context):  # the index is built with the program
            prediction = await retrieve.acall(context, query="return a lamp")
        assert [passage.text for passage in prediction.passages] == ["You can return a lamp."]
        spans = [span for span in prediction.trace.spans if span.name == "openai/mine"]
        assert [(span.kind, span.attributes["texts"]) for span in spans] == [("retrieval", 1)]
        assert budget.spent.total_tokens >= prediction.usage.total_tokens > 0
        with pytest.raises(ConfigurationError, match="cannot resolve the embedder 'openai/mine'"):
            await retrieve.acall(RunContext(), query="return a lamp")
        wrong = DspyRetriever("searches:Named", bridge, init={"dimensions": 8})
        with pytest.raises(DefinitionError, match="'mine' has 'dimensions', which the process"):
            await wrong.search("a")
        spent = RunContext(embedders=context.embedders, budget=Budget(tokens=1))
        with pytest.raises(BudgetError):
            await retrieve.acall(spent, query="a longer query about the return of a lamp")


async def test_a_server_of_colbert_searches(newest: str, folder: str) -> None:
    requests: list[str] = []
    rows = [{"text": "You can return a lamp.", "pid": 7, "rank": 1, "score": 21.5}]
    body = json.dumps({"topk": rows}).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append((await reader.readuntil(b"\r\n\r\n")).decode().split()[1])
        head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    async with (
        asyncio.timeout(120),
        await asyncio.start_server(answer, "127.0.0.1", 0) as server,
        DspyBackend(config(newest, folder)) as bridge,
    ):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/search"
        colbert = DspyRetriever("dspy:ColBERTv2", bridge, init={"url": url})
        (passage,) = await colbert.search("return a lamp", 3)
    assert (passage.text, passage.id, passage.score) == ("You can return a lamp.", "7", 21.5)
    assert requests == ["/search?query=return+a+lamp&k=3"]
