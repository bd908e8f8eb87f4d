import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

import dspex.session
from dspex.execution.context import RunContext, update_default


@pytest.fixture(autouse=True)
def _fresh_default():
    """Each test begins and ends with nothing configured."""
    update_default(lambda _: RunContext())
    dspex.session.prepare()
    yield
    update_default(lambda _: RunContext())


@pytest.fixture
def go():
    """Run a coroutine in a fresh loop; one that hangs fails after ten seconds."""

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(10):
                return await coroutine

        return asyncio.run(bounded())

    return run
