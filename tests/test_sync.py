import asyncio
import contextvars
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dspex import sync
from dspex.errors import ConfigurationError


async def _loop_here() -> int:
    await asyncio.sleep(0)
    return id(asyncio.get_running_loop())


def test_a_thread_keeps_one_loop_for_all_its_calls():
    assert sync.run(_loop_here()) == sync.run(_loop_here())


def test_two_threads_have_two_loops():
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: sync.run(_loop_here())).result() != sync.run(_loop_here())


def test_inside_a_running_loop_as_in_a_notebook_the_call_runs_on_another_thread():
    async def cell() -> tuple[int, str]:
        async def where() -> str:
            return threading.current_thread().name

        return id(asyncio.get_running_loop()), sync.run(where())

    _, name = asyncio.run(cell())
    assert name == "dspex-loop"


def test_a_call_on_dspex_own_loop_says_to_await():
    async def inner() -> None:
        sync.run(_loop_here())

    with pytest.raises(ConfigurationError, match="await"):
        sync.run(inner())

    async def cell() -> None:
        sync.run(inner())

    with pytest.raises(ConfigurationError, match="await"):
        asyncio.run(cell())


@pytest.mark.parametrize("in_a_loop", [False, True])
def test_context_variables_of_the_caller_are_seen_and_errors_come_through(in_a_loop):
    variable = contextvars.ContextVar("variable", default="none")

    async def look() -> None:
        raise LookupError(variable.get())

    def call() -> None:
        variable.set("mine")
        sync.run(look())

    async def cell() -> None:
        call()

    with pytest.raises(LookupError, match="mine"):
        asyncio.run(cell()) if in_a_loop else call()


@pytest.mark.bridge
def test_a_process_that_made_sync_calls_ends_without_a_word():
    code = """
import asyncio, threading, warnings
warnings.simplefilter("error")
from dspex import sync
async def nothing(): return 1
print(sync.run(nothing()))
t = threading.Thread(target=lambda: print(sync.run(nothing()))); t.start(); t.join()
async def cell(): print(sync.run(nothing()))
asyncio.run(cell())
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert (done.stdout, done.stderr) == ("1\n1\n1\n", "")
