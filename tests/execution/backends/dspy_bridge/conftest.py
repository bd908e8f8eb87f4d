"""The interpreters with dspy: this one if the extra is installed.

And a second one from a variable.
"""

import importlib.util
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig

OpenBackend = Callable[[DspyConfig], Awaitable[DspyBackend]]

SECOND = "DSPEX_TEST_DSPY_INTERPRETER"


@pytest.fixture(scope="session", params=["here", "second"])
def interpreter(request):
    if request.param == "here":
        if importlib.util.find_spec("dspy") is None:
            pytest.skip("dspy is not installed here: pip install 'dspex[dspy]'")
        return sys.executable
    if not Path(os.environ.get(SECOND, "nowhere")).exists():
        pytest.skip(
            f"{SECOND} names no second interpreter with another version of dspy; `make test` sets "
            "one up"
        )
    return os.environ[SECOND]


@pytest.fixture
def newest():
    """Only this interpreter, for tests that do not depend on the version of dspy."""
    if importlib.util.find_spec("dspy") is None:
        pytest.skip("dspy is not installed here: pip install 'dspex[dspy]'")
    return sys.executable


@pytest.fixture
def folder():
    return str(Path(__file__).parent / "programs")


@pytest.fixture(scope="module")
async def shared_backend() -> AsyncIterator[OpenBackend]:
    """Opens one backend for each configuration: to import dspy takes longer than most tests."""
    backends: dict[DspyConfig, DspyBackend] = {}
    async with AsyncExitStack() as stack:

        async def open_backend(config: DspyConfig) -> DspyBackend:
            if config not in backends:
                backends[config] = await stack.enter_async_context(DspyBackend(config))
            return backends[config]

        yield open_backend
