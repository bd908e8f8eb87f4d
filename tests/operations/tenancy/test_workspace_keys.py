"""Each workspace runs under its own model keys.

A rotated one is in effect without a restart, and no message holds one.
"""

import dataclasses
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dspex.bootstrap import Services, new_id, open_services
from dspex.bootstrap.jobs import handlers_of
from dspex.bootstrap.models import MAX_CACHED, KeyedModels
from dspex.clock import SystemClock
from dspex.execution.clients import Request
from dspex.execution.clients.providers import PROVIDERS, Provider
from dspex.execution.context import RunContext
from dspex.language.records import Message
from dspex.operations.domain import DOMAIN, QUEUES
from dspex.operations.evaluations.inputs import CreateEvaluation
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.framework.access import Actor
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Query
from dspex.operations.jobs import JobPolicy, JobRows, JobRunner
from dspex.operations.jobs.job_engine import JobEngine
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.tenancy.actions import (
    CreateSecret,
    CreateWorkspace,
    RevokeSecret,
    RotateSecret,
)
from dspex.operations.tenancy.vault import Vault
from dspex.session import ModelResolver, key_of
from dspex.settings import Secret, Settings
from dspex.testing import ScriptedModel
from dspex.testing.model_server import ModelServer
from tests.support.inline_engine import InlineEngine
from tests.support.waiting import eventually

_ACTIONS = {action.name: action for action in DOMAIN.actions}
KEY = "DSPEX_API_KEY"


class Overheard(ModelServer):
    """Notes under which key it was asked last."""

    def __init__(self) -> None:
        super().__init__(
            {"m": ScriptedModel("[[ ## a ## ]]\nyes"), "own": ScriptedModel("[[ ## a ## ]]\nyes")}
        )
        self.key: str | None = None

    async def _complete(self, received: web.Request) -> web.Response:
        self.key = received.headers.get("authorization")
        return await super()._complete(received)


@dataclasses.dataclass
class World:
    services: Services
    server: Overheard

    def of(self, workspace: str) -> Operations:
        return self.services.operations.as_actor(Actor(name="t", workspace=workspace))

    async def act(self, workspace: str, name: str, request: Any) -> Any:
        return await self.of(workspace).perform(_ACTIONS[name], request)

    async def used(self, workspace: str, program: str = "plain") -> str | None:
        """Run a program of a workspace, and return the key that its model was sent."""
        execution = await execute_program(
            self.of(workspace), ExecuteProgram(program=program, inputs={"q": "?"})
        )
        assert execution.status == "completed", execution.error
        return None if self.server.key is None else self.server.key.removeprefix("Bearer ")

    async def until(self, count: Callable[[], Awaitable[Any]], expected: object) -> None:
        async def is_seen() -> bool:
            return await count() == expected

        await eventually(is_seen, within=10)


@asynccontextmanager
async def world(settings: Settings, *workspaces: str) -> AsyncIterator[World]:
    async with Overheard() as server:
        hosts = server.url.split("/")[2]
        variant = dataclasses.replace(
            settings, model=f"{server.url}#m", secret_key=Secret("k" * 40), model_hosts=hosts
        )
        async with open_services(variant) as services:
            at = World(services, server)
            for name in workspaces:
                await at.act("default", "create_workspace", CreateWorkspace(name=name))
            for name in ("default", *workspaces):
                await create_program(at.of(name), CreateProgram(name="plain", signature="q -> a"))
                request = CreateProgram(
                    name="named", signature="q -> a", configuration={"model": f"{server.url}#own"}
                )
                await create_program(at.of(name), request)
            yield at


async def test_a_workspace_runs_under_its_own_key_and_others_under_the_servers(
    on_each_database: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async with world(on_each_database, "one", "two") as at:
        assert [await at.used(name) for name in ("default", "one", "two")] == [None] * 3
        (tmp_path / "held").write_text("key-of-the-server\n")
        await at.act(
            "default",
            "create_secret",
            CreateSecret(name=KEY, reference=f"file:{tmp_path}/held"),
        )
        await at.act("one", "create_secret", CreateSecret(name=KEY, text="key-of-one"))
        await at.until(lambda: at.used("one"), "key-of-one")
        await at.until(lambda: at.used("default"), "key-of-the-server")
        # the model is the one that the server was started with
        assert await at.used("two") == "key-of-the-server"
        assert await at.used("default", "named") == "key-of-the-server"
        assert await at.used("one", "named") == "key-of-one"
        # whose server this is, only the workspace knows
        assert await at.used("two", "named") is None
        await at.act("one", "rotate_secret", RotateSecret(name=KEY, text="key-of-one-anew"))
        (tmp_path / "held").write_text("key-of-the-server-anew\n")
        await at.until(lambda: at.used("one"), "key-of-one-anew")
        await at.until(lambda: at.used("two"), "key-of-the-server-anew")
        assert await at.used("one", "named") == "key-of-one-anew"
        await at.act("one", "revoke_secret", RevokeSecret(name=KEY))
        await at.until(lambda: at.used("one"), "key-of-the-server-anew")
        assert await at.used("one", "named") is None
        store, log = at.services.operations.dependencies.store, caplog.text
        for resource in DOMAIN.values():
            log += repr(list(await store.select(resource, Query(limit=1000))))
        assert "named" in log
        assert "key-of-" not in log


async def test_a_job_asks_under_the_key_of_its_workspace(settings: Settings) -> None:
    async with world(settings, "one") as at:
        await at.act("one", "create_secret", CreateSecret(name=KEY, text="key-of-one"))
        services = at.services
        store = services.operations.dependencies.store
        rows = JobRows(store, policy=JobPolicy(queues=QUEUES), clock=SystemClock(), new_id=new_id)
        runner = JobRunner(rows, handlers=handlers_of(services), policy=JobPolicy(queues=QUEUES))
        async with InlineEngine(store, runner) as engine:
            dependencies = services.operations.dependencies.with_services({JobEngine: engine})
            operations = Operations(dependencies, actor=Actor(name="t", workspace="one"))
            create = _ACTIONS["create_dataset"]
            await operations.perform(create, create.input(name="d", rows=[{"q": "?", "a": "yes"}]))
            request = CreateEvaluation(program="plain", dataset="d")
            job = await operations.perform(_ACTIONS["create_evaluation"], request)
            await engine.finished(job.id)
            row = await store.get(DOMAIN["evaluation"], id=job.id)
        assert row is not None
        assert (row.status, row.mean, row.error) == ("completed", 1.0, None)
        assert at.server.key == "Bearer key-of-one"


async def test_weights_are_shared_and_only_models_of_a_changed_key_are_made_anew(
    settings: Settings,
) -> None:
    resolver = ModelResolver(
        dataclasses.replace(settings, keys={"OPENAI_API_KEY": Secret("a"), KEY: Secret("b")})
    )
    names = ("openai/x", "http://host/v1#x", "ollama/x")
    before = [resolver(name) for name in names]
    resolver.rekey({"OPENAI_API_KEY": Secret("c"), KEY: Secret("b")})
    assert [resolver(name) is model for name, model in zip(names, before, strict=True)] == [
        False,
        True,
        True,
    ]
    assert [
        key_of(name) for name in (*names, "local/x", "a/b.gguf", "openai/x.gguf", "nobody/x")
    ] == [
        "OPENAI_API_KEY",
        KEY,
        *[None] * 5,
    ]
    await resolver.aclose()


async def test_a_revoked_key_of_the_server_fails_those_who_need_it_and_nobody_else(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_services(settings) as services:
        create = _ACTIONS["create_secret"]
        await services.operations.perform(
            create, CreateSecret(name="OPENAI_API_KEY", text="key-of-the-server")
        )
    async with (
        Overheard() as server,
        open_services(dataclasses.replace(settings, model="openai/m")) as services,
    ):
        monkeypatch.setitem(PROVIDERS, "openai", Provider(server.url, "OPENAI_API_KEY"))
        # what was made for the real address
        services.context.models._models.clear()  # type: ignore[union-attr]
        operations = services.operations
        for name, backend in (("asks", "native"), ("asks_nobody", "mock")):
            await create_program(
                operations, CreateProgram(name=name, signature="q -> a", backend=backend)
            )
        await operations.perform(_ACTIONS["revoke_secret"], RevokeSecret(name="OPENAI_API_KEY"))

        async def said(name: str) -> str:
            execution = await execute_program(
                operations, ExecuteProgram(program=name, inputs={"q": "?"})
            )
            return execution.status if execution.error is None else execution.error["message"]

        async def is_without_key() -> bool:
            if "set OPENAI_API_KEY" in await said("asks"):
                return True
            assert server.key == "Bearer key-of-the-server"
            return False

        await eventually(is_without_key, within=10)
        assert await said("asks_nobody") == "completed"


async def test_workspaces_without_keys_of_their_own_leave_nothing_behind() -> None:
    class Empty:
        async def select(self, *_asked: object) -> list[object]:
            return []

    resolver = ModelResolver(Settings())
    keyed = KeyedModels(Empty(), Vault(bytes), resolver=resolver, clock=SystemClock(), say=print)
    context = RunContext(models=resolver)
    for number in range(MAX_CACHED + 20):
        await keyed.context_for(f"tenant-{number}", context)
    assert len(keyed._cache) == MAX_CACHED
    await keyed.aclose()


async def test_workspaces_with_models_of_their_own_hold_nothing_once_they_are_forgotten() -> None:
    class Keys:
        async def select(self, *_asked: object) -> list[object]:
            return []

    async with Overheard() as server:
        settings = Settings(model_hosts=server.url.split("/")[2])
        resolver = ModelResolver(settings)
        keyed = KeyedModels(Keys(), Vault(bytes), resolver=resolver, clock=SystemClock(), say=print)
        context, forgotten = RunContext(models=resolver), []
        for number in range(MAX_CACHED + 20):
            models = (await keyed.context_for(f"tenant-{number}", context)).models
            assert models is not None
            model = models(f"{server.url}#m")
            if number in {0, MAX_CACHED + 19}:
                await model.complete(Request(messages=(Message("user", "?"),)))
            forgotten.append(weakref.ref(model))
            del models, model
        gc.collect()
        assert sum(reference() is not None for reference in forgotten) == MAX_CACHED
        assert len(keyed._transport._sessions) == 1
        await keyed.aclose()
        assert len(keyed._transport._sessions) == 0


async def test_a_resolver_remembers_so_many_models_at_servers_and_all_in_this_process() -> None:
    resolver = ModelResolver(Settings())
    local = resolver("x.gguf")
    for number in range(1000):
        resolver(f"ollama/m{number}")
    assert len(resolver._models) == 256
    assert resolver("x.gguf") is local
    await resolver.aclose()
