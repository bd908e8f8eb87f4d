"""Models behind the OpenAI protocol, on a separate thread, for code that blocks."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dspex.execution.clients import LanguageModel
from dspex.testing.model_server import ModelServer


@contextmanager
def served(models: Mapping[str, LanguageModel]) -> Iterator[ModelServer]:
    """Serve `models` for a block."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    server, finished = ModelServer(models), asyncio.Event()

    async def main() -> None:
        async with server:
            ready.set()
            await finished.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True)
    thread.start()
    assert ready.wait(30), "the server did not start"
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(finished.set)
        thread.join(30)
        loop.close()
