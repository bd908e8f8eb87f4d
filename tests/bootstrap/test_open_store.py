"""`dspex.open`: library runs as executions."""

import asyncio
import contextvars
import importlib
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

import dspex
from dspex.bootstrap.open_store import OpenStore
from dspex.errors import (
    ConfigurationError,
    DefinitionError,
    InputError,
    InvalidError,
    ModelUnavailableError,
    NotFoundError,
)
from dspex.execution import clients
from dspex.execution.context import current
from dspex.execution.modules import CodeRoot
from dspex.language.records import ToolCall
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.store import Query
from dspex.operations.programs.stored_programs import save_program
from dspex.surfaces.cli.main import main
from dspex.sync import run
from dspex.testing import ScriptedModel


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Desk(dspex.Module):
    """A program whose signature has no name."""

    signature = "question -> answer"

    def __init__(self) -> None:
        self.reply = dspex.Predict("question -> answer")

    async def forward(self, question: str) -> dspex.Prediction:
        return await self.reply.acall(question=question)


def test_a_program_of_the_running_script_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Desk, "__module__", "__main__")
    with (
        dspex.open("kept"),
        pytest.raises(
            DefinitionError,
            match=r"Desk cannot be found by import, because the running script defines it; .*"
            r"`dspex\.open` .* write `from programs import Desk`",
        ),
    ):
        Desk()(question="capital?")


def test_programs_that_run_inside_are_recorded_and_outside_are_not() -> None:
    model = ScriptedModel("[[ ## answer ## ]]\nParis", cost_usd=0.5)
    program = dspex.Predict("question -> answer", model=model)
    program(question="before?")
    with dspex.open("kept") as store:
        answered = program(question="capital?")
        assert answered.answer == "Paris"
        [row] = store.executions()
        assert (row.status, row.inputs, row.outputs) == (
            "completed",
            {"question": "capital?"},
            {"answer": "Paris"},
        )
        assert row.trace is not None
        assert (row.cost_usd, len(row.trace["spans"])) == (0.5, 2)
        [call] = [span for span in row.trace["spans"] if span["kind"] == "model"]
        assert "capital?" in call["inputs_ref"]
        assert "Paris" in call["outputs_ref"]
        assert answered.usage.cost_usd == 0.5
    program(question="after?")
    with dspex.open("kept") as again:
        assert len(again.executions(limit=9)) == 1
    with pytest.raises(ConfigurationError, match="not open"):
        again.executions()


def test_programs_of_string_signatures_are_named_by_their_classes() -> None:
    """All of them were versions of one program, called "Signature"."""
    model = ScriptedModel("[[ ## answer ## ]]\nParis")
    with dspex.open("kept") as store, dspex.context(model=model):
        dspex.Predict("question -> answer")(question="?")
        Desk()(question="?")
        assert {name: len(store.executions(program=name)) for name in ("Predict", "Desk")} == {
            "Predict": 1,
            "Desk": 1,
        }


def test_a_failure_is_recorded_and_raised_as_it_is() -> None:
    class Down(ScriptedModel):
        async def complete(self, request: clients.Request) -> clients.Response:
            raise ModelUnavailableError("down")

    program = dspex.Predict("question -> answer", model=Down("x"))
    with dspex.open() as store:
        with pytest.raises(ModelUnavailableError, match="down"):
            program(question="?")
        with pytest.raises(InputError):
            program(qestion="?")
        errors = [row.error or {} for row in store.executions()]
        assert [error["code"] for error in errors] == ["invalid", "model_unavailable"]


def test_a_name_that_no_store_takes_is_no_fault_of_the_inputs() -> None:
    program = dspex.Predict(dspex.Signature("question -> answer", name="a/b"))
    with dspex.open() as store:
        with pytest.raises(InvalidError, match="name: "):
            program(question="?")
        assert not store.executions()


async def test_in_a_coroutine_it_is_opened_and_used_on_the_loop_there() -> None:
    program = dspex.Predict("question -> answer", model=ScriptedModel("[[ ## answer ## ]]\nyes"))
    async with dspex.open() as store:
        await asyncio.gather(*(program.acall(question=str(n)) for n in range(5)))
        assert len(await store.operations.list(DOMAIN["execution"], Query())) == 5


def test_a_store_opened_outside_of_a_loop_serves_no_coroutine() -> None:
    program = dspex.Predict("question -> answer", model=ScriptedModel("[[ ## answer ## ]]\nyes"))
    with dspex.open(), pytest.raises(ConfigurationError, match="async with"):
        asyncio.run(program.acall(question="?"))


def test_a_store_that_a_lifespan_opened_records_every_request() -> None:
    program = dspex.Predict("question -> answer", model=ScriptedModel("[[ ## answer ## ]]\nyes"))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with dspex.open() as store:
            app.state.store = store
            yield

    async def awaited(request: Request) -> Response:
        return PlainTextResponse((await program.acall(question="awaited")).answer)

    def in_a_thread(request: Request) -> Response:
        return PlainTextResponse(program(question="in a thread").answer)

    async def blocking(request: Request) -> Response:
        return PlainTextResponse(program(question="blocking").answer)

    async def configured(request: Request) -> Response:
        with dspex.context(seed=3):
            return PlainTextResponse((await program.acall(question="configured")).answer)

    async def rows(request: Request) -> Response:
        result = await request.app.state.store.operations.list(DOMAIN["execution"], Query())
        return JSONResponse([row.inputs["question"] for row in result])

    handlers = (awaited, in_a_thread, blocking, configured, rows)
    app = Starlette(
        lifespan=lifespan, routes=[Route(f"/{handler.__name__}", handler) for handler in handlers]
    )
    with TestClient(app) as client:
        for path in ("awaited", "in_a_thread", "configured"):
            assert client.get(path).text == "yes"
        # it would wait for itself for ever
        with pytest.raises(ConfigurationError, match=r"await module\.acall"):
            client.get("blocking")
        assert client.get("rows").json() == ["configured", "in a thread", "awaited"]
    assert current().record is None
    assert program(question="after").answer == "yes"


async def test_a_context_that_is_older_than_the_store_is_recorded_too() -> None:
    program = dspex.Predict("question -> answer")
    with dspex.context(model=ScriptedModel("[[ ## answer ## ]]\nParis")):
        context = contextvars.copy_context()  # as a server has it that was started inside the block
    opened, closing = asyncio.Event(), asyncio.Event()

    async def lifespan() -> list[str]:
        async with dspex.open("store") as store:
            opened.set()
            await closing.wait()
            rows = await store.operations.list(DOMAIN["execution"], Query())
            return [row.inputs["question"] for row in rows]

    life = asyncio.create_task(lifespan())
    await opened.wait()
    request = asyncio.create_task(program.acall(question="first"), context=context)
    assert (await request).answer == "Paris"
    explicit = dspex.RunContext(model=ScriptedModel("[[ ## answer ## ]]\nLima"))
    assert (await program.acall(explicit, question="second")).answer == "Lima"
    closing.set()
    assert await life == ["second", "first"]


async def test_of_several_stores_the_one_around_a_program_records_it() -> None:
    program = dspex.Predict("question -> answer", model=ScriptedModel("[[ ## answer ## ]]\nyes"))

    async def questions(store: OpenStore) -> list[str]:
        return [
            row.inputs["question"]
            for row in await store.operations.list(DOMAIN["execution"], Query())
        ]

    async def inside(folder: str, barrier: asyncio.Barrier) -> list[str]:
        async with dspex.open(folder) as store:
            await barrier.wait()
            await program.acall(question=folder)
            await barrier.wait()
            return await questions(store)

    for folder in "ab":  # their tables are made one after the other
        async with dspex.open(folder):
            pass
    barrier = asyncio.Barrier(2)
    assert [*await asyncio.gather(inside("a", barrier), inside("b", barrier))] == [["a"], ["b"]]
    assert current().record is None
    outer, inner = dspex.open("outer"), dspex.open("inner")
    await outer.__aenter__()
    await inner.__aenter__()
    task = contextvars.Context().run(asyncio.ensure_future, program.acall(question="elsewhere"))
    await task
    assert (await questions(outer), await questions(inner)) == ([], ["elsewhere"])
    await outer.__aexit__(None, None, None)
    await inner.__aexit__(None, None, None)
    assert contextvars.Context().run(current).record is None


def test_a_program_with_parts_on_other_backends_runs_here_and_is_recorded() -> None:
    model = ScriptedModel("[[ ## answer ## ]]\nhere")
    with dspex.open() as store:
        assert (
            dspex.Predict("question -> answer", model=model).on("mock")(question="?").answer
            == "here"
        )
        [row] = store.executions()
        assert (row.status, row.backend) == ("completed", "native")


AGENTS = """
import dspex


def weather(city: str) -> str:
    \"\"\"The weather now.\"\"\"
    return f"sunny in {city}"


agent = dspex.ReAct(dspex.Signature("question -> answer", name="Agent"), [weather])
"""
CALLS = [
    ToolCall("1", "weather", {"city": "Oslo"}),
    ToolCall("2", "finish", {"answer": "sunny"}),
]


@pytest.fixture
def agent_module(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "open_store_agents.py").write_text(AGENTS)
    yield "open_store_agents"
    sys.modules.pop("open_store_agents", None)
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


def test_a_stored_agent_is_loaded_with_its_tools(tmp_path: Path, agent_module: str) -> None:
    agent = CodeRoot(tmp_path).load(f"{agent_module}:agent")
    with dspex.open() as store:
        run(save_program(store.operations, agent.to_program("helper")))
        loaded = store.load("helper")
        assert isinstance(loaded, dspex.ReAct)
        model = ScriptedModel(*CALLS, capabilities=["tools"])
        with dspex.context(model=model):
            assert loaded(question="How is Oslo?").answer == "sunny"
        assert model.requests[-1].messages[-1].content == "sunny in Oslo"
        [row] = store.executions(program="helper")
        assert row.status == "completed"
        assert loaded.to_program("helper").content_hash == agent.to_program("helper").content_hash


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            AGENTS.replace("def weather", "def forecast"),
            "the tool 'weather' cannot be loaded: .*no",
        ),
        (None, "the tool 'weather' cannot be loaded: cannot import 'open_store_agents'"),
    ],
)
def test_a_tool_that_cannot_be_found_is_named(
    tmp_path: Path, agent_module: str, text: str | None, message: str
) -> None:
    agent = CodeRoot(tmp_path).load(f"{agent_module}:agent")
    with dspex.open() as store:
        run(save_program(store.operations, agent.to_program("helper")))
        file = tmp_path / f"{agent_module}.py"
        if text is None:
            file.unlink()
        else:
            file.write_text(text.replace("[weather]", "[forecast]"))
        sys.modules.pop(agent_module)
        importlib.invalidate_caches()
        with pytest.raises(DefinitionError, match=message):
            store.load("helper")


def test_a_run_of_a_loaded_version_is_an_execution_of_it() -> None:
    model = ScriptedModel("[[ ## answer ## ]]\nParis")
    capital = dspex.Predict("question -> answer")
    with dspex.open() as store, dspex.context(model=model):
        for text in ("First.", "Second."):
            program = capital.assign({"self.instructions": text}).to_program("capital")
            record = run(save_program(store.operations, program))
        first, newest = store.load("capital", version=1), store.load(str(record.id))
        assert [part.contract().instructions for part in (first, newest)] == [
            "First.",
            "Second.",
        ]
        first(question="?")
        newest(question="?")
        rows = store.executions(program="capital")
        versions = run(store.operations.list(DOMAIN["program_version"], Query()))
        assert [row.program_version_id for row in rows] == [version.id for version in versions]
        [program_row] = run(store.operations.list(DOMAIN["program"], Query()))
        assert program_row.current_version_id == record.current_version_id
        with pytest.raises(NotFoundError, match="'capital' has no version 3"):
            store.load("capital", version=3)
        with pytest.raises(NotFoundError, match="there is no program 'captial'"):
            store.load("captial")
    with pytest.raises(ConfigurationError, match="not open"):
        store.load("capital")


async def test_in_a_coroutine_a_stored_program_is_loaded_with_await() -> None:
    model = ScriptedModel("[[ ## answer ## ]]\nyes")
    async with dspex.open() as store:
        program = dspex.Predict("question -> answer").to_program("poll")
        record = await save_program(store.operations, program)
        with dspex.context(model=model):
            module = await store.aload(record.id)
            assert (await module.acall(question="?")).answer == "yes"
        [row] = await store.operations.list(DOMAIN["execution"], Query())
        assert row.program_id == record.id
        with pytest.raises(ConfigurationError, match="await"):
            store.load("poll")


@pytest.mark.bridge
def test_a_program_of_dspy_is_loaded_and_runs_in_a_worker(tmp_path: Path) -> None:
    pytest.importorskip("dspy")
    (tmp_path / "routing.py").write_text(
        "import dspy\n\n\nclass Routing(dspy.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.part = dspy.Predict('message -> topic')\n\n"
        "    def forward(self, message: str):\n        return self.part(message=message)\n"
    )
    with pytest.raises(SystemExit, match="0"):
        main(["import", "routing.py:Routing"])
    model = ScriptedModel("[[ ## topic ## ]]\ncards")
    with dspex.open() as store, dspex.context(model=model):
        assert store.load("Routing")(message="My card?").topic == "cards"
        [row] = store.executions(program="Routing")
        assert (row.status, row.backend) == ("completed", "dspy")
        assert len(run(store.operations.list(DOMAIN["program_version"], Query()))) == 1
