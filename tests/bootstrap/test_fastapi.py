"""A real FastAPI application records what its requests run."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import dspex
from dspex.testing import ScriptedModel

pytest.importorskip("fastapi", reason="FastAPI is not installed: pip install fastapi")

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient


def program() -> dspex.Predict:
    reply = "[[ ## answer ## ]]\nyes"
    model = ScriptedModel(reply, capabilities=["streaming"])
    return dspex.Predict("question -> answer", model=model)


def add_routes(app: FastAPI) -> None:
    @app.get("/awaited")
    async def awaited(question: str) -> dict[str, str]:
        return {"answer": (await program().acall(question=question)).answer}

    @app.get("/threaded")
    def threaded(question: str) -> dict[str, str]:
        return {"answer": program()(question=question).answer}

    @app.get("/streamed")
    async def streamed(question: str) -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            async for event in program().stream(question=question):
                if isinstance(event, dspex.FieldDelta):
                    yield event.text

        return StreamingResponse(pieces(), media_type="text/plain")


def ask_each_route(app: FastAPI) -> None:
    with TestClient(app) as client:
        assert client.get("/awaited", params={"question": "a"}).json() == {"answer": "yes"}
        assert client.get("/threaded", params={"question": "b"}).json() == {"answer": "yes"}
        assert client.get("/streamed", params={"question": "c"}).text == "yes"


def recorded_questions(folder: Path) -> set[str]:
    with dspex.open(folder) as store:
        return {row.inputs["question"] for row in store.executions()}


def test_a_lifespan_records_every_request(tmp_path: Path) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with dspex.open(tmp_path / "store"):
            yield

    app = FastAPI(lifespan=lifespan)
    add_routes(app)
    ask_each_route(app)
    assert recorded_questions(tmp_path / "store") == {"a", "b", "c"}


def test_one_line_at_the_start_records_every_request(tmp_path: Path) -> None:
    app = FastAPI()
    add_routes(app)
    dspex.configure(store=tmp_path / "store")
    try:
        ask_each_route(app)
    finally:
        dspex.configure(store=False)
    assert recorded_questions(tmp_path / "store") == {"a", "b", "c"}
