import asyncio
import contextvars
import signal
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


def test_the_loop_of_a_thread_ends_with_the_thread():
    loops, finished = [], []

    async def living():
        try:
            yield
        finally:
            finished.append(asyncio.get_running_loop())

    async def call() -> None:
        loops.append(asyncio.get_running_loop())
        generators.append(living())
        await anext(generators[-1])

    generators: list = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: sync.run(call()))
        thread.start()
        thread.join()
    assert finished == loops
    assert [loop.is_closed() for loop in loops] == [True] * 3


def test_who_interrupts_a_cell_ends_its_call():
    started, finished = threading.Event(), threading.Event()

    async def hold() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            finished.set()

    async def cell() -> None:
        sync.run(hold())

    def interrupt() -> None:
        waits = threading.main_thread().ident
        assert waits is not None
        assert started.wait(10)
        while sys._current_frames()[waits].f_code.co_name not in {"result", "wait"}:
            started.wait(0)
        while not finished.is_set():  # just before it blocks, Python can miss a signal
            signal.pthread_kill(waits, signal.SIGINT)
            finished.wait(5)

    interrupting = threading.Thread(target=interrupt)
    # a process that was started in the background of a shell ignores SIGINT
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupting.start()
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(cell())
    finally:
        loop.close()
        interrupting.join()
        signal.signal(signal.SIGINT, previous)
    assert finished.wait(10)


def test_calls_of_a_thread_are_made_on_the_loop_that_waits_for_it_however_many_or_deep():
    def nested(depth: int) -> int:
        return sync.run(sync.in_thread(nested, depth=depth - 1) if depth else _loop_here())

    async def main() -> set[int]:
        async with asyncio.timeout(20):
            results = await asyncio.gather(*(sync.in_thread(nested, depth=4) for _ in range(40)))
        return {*results, id(asyncio.get_running_loop())}

    assert len(asyncio.run(main())) == 1


def test_cancelling_ends_the_call_of_a_thread_and_refuses_its_next_one():
    events: list[str] = []
    over = threading.Event()

    async def main() -> None:
        started = asyncio.Event()

        async def hold() -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                events.append("ended")

        def work() -> None:
            for _ in range(2):
                try:
                    sync.run(hold())
                except BaseException as error:  # noqa: BLE001
                    events.append(type(error).__name__)
            over.set()

        task = asyncio.create_task(sync.in_thread(work))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert events[0] == "ended"

    asyncio.run(main())
    assert over.wait(10)
    assert events == ["ended", "CancelledError", "CancelledError"]


def test_what_work_in_a_thread_raises_is_raised_whatever_it_is():
    def work() -> None:
        raise StopIteration("mine")

    async def main() -> None:
        with pytest.raises(RuntimeError) as caught:
            await sync.in_thread(work)
        assert isinstance(caught.value.__cause__, StopIteration)

    asyncio.run(main())


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
    process = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert (process.stdout, process.stderr) == ("1\n1\n1\n", "")


def test_an_interruption_inside_nested_tasks_lets_all_of_them_clean_up():
    cleaned = []

    async def task(depth: int) -> None:
        try:
            if not depth:
                signal.raise_signal(signal.SIGINT)
            async with asyncio.TaskGroup() as group:
                group.create_task(task(depth - 1))
                group.create_task(asyncio.Event().wait())
        finally:
            await asyncio.sleep(0)
            cleaned.append(depth)

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            sync.run(task(4))
    finally:
        signal.signal(signal.SIGINT, previous)
    assert cleaned == [0, 1, 2, 3, 4]
