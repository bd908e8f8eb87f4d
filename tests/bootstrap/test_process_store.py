"""`dspex.configure(store=...)`: whatever a process runs is stored, or an error says why not."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

import dspex
from dspex.bootstrap.process_store import ProcessStore
from dspex.errors import ConfigurationError, StorageError
from dspex.execution.context import process_default
from dspex.testing import ScriptedModel


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    dspex.configure(store=False)


class Where(dspex.Module):
    """Tells the loop that it runs on."""

    loops: list[asyncio.AbstractEventLoop]

    async def forward(self, question: str) -> dspex.Prediction:
        Where.loops.append(asyncio.get_running_loop())
        return dspex.Prediction(answer="yes")

    signature = "question -> answer"


def program() -> dspex.Predict:
    return dspex.Predict("question -> answer", model=ScriptedModel("[[ ## answer ## ]]\nyes"))


def questions(folder: str = "kept") -> list[str]:
    with dspex.open(folder) as store:
        return [row.inputs["question"] for row in reversed(store.executions())]


def test_calls_of_all_kinds_are_recorded_until_it_is_turned_off() -> None:
    dspex.configure(store="kept")
    program()(question="synchronous")
    asyncio.run(program().acall(question="awaited"))

    async def blocking() -> None:
        program()(question="blocking")

    asyncio.run(blocking())
    with dspex.open("inner"):
        program()(question="inner")
    dspex.configure(store=False)
    program()(question="after")
    assert questions() == ["synchronous", "awaited", "blocking"]
    assert questions("inner") == ["inner"]
    assert process_default().record is None


def test_programs_run_on_the_loop_of_their_caller() -> None:
    dspex.configure(store="kept")
    Where.loops = []

    async def work() -> asyncio.AbstractEventLoop:
        await asyncio.gather(*(Where().acall(question=str(number)) for number in range(4)))
        return asyncio.get_running_loop()

    assert [asyncio.run(work())] * 4 == Where.loops


def test_requests_are_recorded_without_a_lifespan() -> None:
    async def awaited(request: Request) -> Response:
        return PlainTextResponse((await program().acall(question="request")).answer)

    def in_a_thread(request: Request) -> Response:
        return PlainTextResponse(program()(question="thread").answer)

    dspex.configure(store="kept")
    handlers = (awaited, in_a_thread)
    app = Starlette(routes=[Route(f"/{handler.__name__}", handler) for handler in handlers])
    with TestClient(app) as client:
        assert client.get("/awaited").text == client.get("/in_a_thread").text == "yes"
    assert questions() == ["request", "thread"]


def test_another_folder_takes_its_place() -> None:
    dspex.configure(store="kept")
    dspex.configure(store="other")
    program()(question="later")
    assert (questions(), questions("other")) == ([], ["later"])


def test_a_store_that_cannot_be_used_is_refused_at_once() -> None:
    Path("file").write_text("not a folder")
    with pytest.raises(StorageError):
        dspex.configure(store="file")
    assert process_default().record is None


async def test_it_does_not_replace_the_store_of_a_lifespan() -> None:
    async with dspex.open("kept"):
        with pytest.raises(ConfigurationError, match=r"`dspex\.open` records this process"):
            dspex.configure(store="other")


def test_a_forked_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    dspex.configure(store="kept")
    assert isinstance(process_default().record, ProcessStore)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(ConfigurationError, match="this process was forked"):
            program()(question="?")


@pytest.mark.bridge
def test_the_end_of_a_process_closes_it(tmp_path: Path) -> None:
    code = (
        "import dspex; from dspex.testing import ScriptedModel; dspex.configure(store='kept');"
        "dspex.Predict('question -> answer', model=ScriptedModel('[[ ## answer ## ]]\\nyes'))"
        "(question='script')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert questions() == ["script"]


def test_a_store_that_is_never_opened_warns() -> None:
    with pytest.warns(RuntimeWarning, match="was never opened, so it recorded nothing"):
        dspex.open("kept")  # its last reference is gone at once


def test_a_plain_with_in_a_lifespan_that_misses_the_requests_warns() -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with dspex.open("kept"):
            yield

    async def answer(request: Request) -> Response:
        return PlainTextResponse((await program().acall(question="request")).answer)

    with (
        pytest.warns(RuntimeWarning, match="write `async with"),
        TestClient(Starlette(lifespan=lifespan, routes=[Route("/", answer)])) as client,
    ):
        assert client.get("/").text == "yes"
    assert questions() == []
