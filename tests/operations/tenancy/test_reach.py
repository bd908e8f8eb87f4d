"""Who may make the server reach where, and what becomes of credentials in the URLs of models."""

import dataclasses
from typing import Any
from uuid import uuid4

import pytest

from dspex.bootstrap import open_services
from dspex.bootstrap.models import HiddenAddressEmbedder, HiddenAddressModel, WorkspaceModels
from dspex.errors import ConfigurationError, DspexError, ForbiddenError, InvalidError
from dspex.execution.clients import LanguageModel, Request
from dspex.execution.clients.hashing_embedder import HashingEmbedder
from dspex.execution.clients.providers import PROVIDERS, Provider
from dspex.execution.clients.transport import SharedTransport
from dspex.language.records import Message
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.framework.access import Actor, Scope
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Query
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.tenancy.actions import CreateWorkspace
from dspex.session import ModelResolver
from dspex.settings import Secret, Settings
from dspex.testing import LoopbackServer, ScriptedModel, http_answer
from dspex.testing.contracts import LanguageModelContract
from dspex.testing.embedders import EmbedderContract

_ACTIONS = {action.name: action for action in DOMAIN.actions}
REPLY = http_answer({"choices": [{"message": {"content": "[[ ## a ## ]]\nyes"}}]})
PAGE = http_answer(b"<html>the intranet's secret</html>", headers={"content-type": "text/html"})


def caller(workspace: str, *scopes: Scope) -> Actor:
    """Return somebody with a key."""
    return Actor(name="t", workspace=workspace, scopes=frozenset(scopes), key_id=uuid4())


async def create(operations: Operations, model: str, name: str = "p") -> Any:
    request = CreateProgram(name=name, signature="q -> a", configuration={"model": model})
    return await operations.perform(_ACTIONS["create_program"], request)


@pytest.mark.parametrize(
    "model", ["http://127.0.0.1:9/v1#m", "HTTP://127.0.0.1:9/v1#m", "/etc/x.gguf", "ollama/m"]
)
async def test_only_admins_of_the_default_workspace_choose_servers_and_files(
    settings: Settings, model: str
) -> None:
    async with open_services(settings) as services:
        operations = services.operations
        await operations.perform(_ACTIONS["create_workspace"], CreateWorkspace(name="tenant"))
        refused = [
            caller("tenant", "admin"),
            caller("tenant", "write"),
            caller("default", "write"),
        ]
        for actor in refused:
            with pytest.raises(ForbiddenError, match="model_hosts"):
                await create(operations.as_actor(actor), model)
        await create(operations.as_actor(caller("default", "admin")), model)


@pytest.mark.parametrize("kind", ["program_of_thought", "rlm"])
async def test_only_admins_of_the_default_workspace_choose_an_unsafe_sandbox(
    settings: Settings, kind: str
) -> None:
    def request(sandbox: str, name: str) -> CreateProgram:
        return CreateProgram(
            name=name, signature="q -> a", module=kind, configuration={"sandbox": sandbox}
        )

    async with open_services(settings) as services:
        operations, create = services.operations, _ACTIONS["create_program"]
        await operations.perform(_ACTIONS["create_workspace"], CreateWorkspace(name="tenant"))
        for actor in (caller("tenant", "admin"), caller("default", "write")):
            with pytest.raises(ForbiddenError, match=r"not a security boundary.*monty, deno"):
                await operations.as_actor(actor).perform(create, request("subprocess", "p"))
            await operations.as_actor(actor).perform(create, request("deno", "p"))
        admin = operations.as_actor(caller("default", "admin"))
        await admin.perform(create, request("subprocess", "q"))
        await operations.perform(create, request("subprocess", "r"))  # the command line


async def test_every_workspace_names_servers_at_the_hosts_of_the_settings(
    settings: Settings,
) -> None:
    async with LoopbackServer(REPLY) as server:
        variant = dataclasses.replace(
            settings, model_hosts=f"models.example, {server.url.split('/')[2]}"
        )
        async with open_services(variant) as services:
            tenant = services.operations.as_actor(caller("tenant", "admin"))
            await services.operations.perform(
                _ACTIONS["create_workspace"], CreateWorkspace(name="tenant")
            )
            await create(tenant, f"{server.url}/v1#m")
            execution = await execute_program(
                tenant, ExecuteProgram(program="p", inputs={"q": "?"})
            )
            assert (execution.status, execution.outputs) == ("completed", {"a": "yes"})
            with pytest.raises(ForbiddenError):  # another port is another server
                await create(tenant, "http://models.example:8000/v1#m", "other")


async def test_self_hosted_servers_are_reached_at_allowed_hosts_only(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with LoopbackServer(
        REPLY, http_answer({"error": {"message": "intranet-secret"}}, status=400)
    ) as server:
        monkeypatch.setitem(PROVIDERS, "ollama", Provider(f"{server.url}/v1"))
        for hosts in ("127.0.0.1", server.url.split("/")[2]):  # another port is another server
            async with open_services(dataclasses.replace(settings, model_hosts=hosts)) as services:
                name = f"tenant-{len(hosts)}"
                await services.operations.perform(
                    _ACTIONS["create_workspace"], CreateWorkspace(name=name)
                )
                await create(
                    services.operations.as_actor(Actor(name="t", workspace=name)), "ollama/m"
                )
                tenant = services.operations.as_actor(caller(name, "admin"))
                statuses, errors = [], ""
                for _ in range(2):
                    execution = await execute_program(
                        tenant, ExecuteProgram(program="p", inputs={"q": "?"})
                    )
                    statuses.append(execution.status)
                    errors += str(execution.error)
                assert "intranet-secret" not in errors
                if hosts == "127.0.0.1":
                    assert (statuses, len(server.asked)) == (["failed", "failed"], 0)
                    assert "model_hosts" in errors
                    with pytest.raises(ForbiddenError, match="ollama/NAME"):
                        await create(tenant, "ollama/m", "other")
                else:
                    assert (statuses, len(server.asked)) == (["completed", "failed"], 2)
                    await create(tenant, "ollama/m", "other")


async def test_a_tenants_program_of_before_reaches_nothing_and_reads_nothing_back(
    settings: Settings,
) -> None:
    async with LoopbackServer(PAGE) as server, open_services(settings) as services:
        inside = services.operations.as_actor(Actor(name="t", workspace="tenant"))
        await services.operations.perform(
            _ACTIONS["create_workspace"], CreateWorkspace(name="tenant")
        )
        # on the machine itself: stored, as by an earlier version
        await create(inside, f"{server.url}/v1#m")
        execution = await execute_program(inside, ExecuteProgram(program="p", inputs={"q": "?"}))
        assert execution.status == "failed"
        assert "model_hosts" in str(execution.error)
        assert server.asked == []


@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize(
    "body",
    [
        b"<html>intranet-secret</html>",
        b'{"rows": ["intranet-secret"]}',
        b'{"error": {"rows": "intranet-secret"}}',
    ],
)
async def test_an_error_quotes_nothing_of_what_is_no_error_of_a_model(
    settings: Settings, status: int, body: bytes
) -> None:
    async with (
        LoopbackServer(http_answer(body, status=status)) as server,
        open_services(settings) as services,
    ):
        await create(services.operations, f"{server.url}/v1#m")
        execution = await execute_program(
            services.operations, ExecuteProgram(program="p", inputs={"q": "?"})
        )
        assert execution.status == "failed"
        assert "intranet-secret" not in str(execution.error)


async def test_of_a_server_at_an_allowed_host_tenants_read_no_error_at_all(
    settings: Settings,
) -> None:
    reply = http_answer({"error": {"message": "intranet-secret"}}, status=400)
    async with LoopbackServer(reply) as server:
        resolver = ModelResolver(settings, transport=SharedTransport(quotes_errors=False))
        plain = ModelResolver(settings)
        messages = []
        for models in (resolver, plain):
            with pytest.raises(DspexError) as caught:
                await models(f"{server.url}/v1#m").complete(_request())
            messages.append(caught.value.message)
            await models.aclose()
        assert ["intranet-secret" in message for message in messages] == [False, True]


async def test_other_workspaces_are_not_told_where_the_model_of_the_server_is(
    settings: Settings,
) -> None:
    async with LoopbackServer(REPLY) as server:
        place = server.url.split("/")[2]
        async with open_services(
            dataclasses.replace(settings, model=f"{server.url}/v1#m")
        ) as services:
            await services.operations.perform(
                _ACTIONS["create_workspace"], CreateWorkspace(name="tenant")
            )
            errors = {}
            for name in ("default", "tenant"):
                inside = services.operations.as_actor(caller(name, "admin"))
                await create_program(inside, CreateProgram(name="p", signature="q -> a"))
                execution = await execute_program(
                    inside, ExecuteProgram(program="p", inputs={"q": "?"})
                )
                assert execution.status == "completed"
                rows = await services.operations.dependencies.store.select(
                    DOMAIN["execution"], Query(where={"workspace": name}, limit=10)
                )
                errors[name] = repr([execution, *rows])
            assert [place in text for text in errors.values()] == [True, False]


def _request() -> Request:
    return Request(messages=(Message("user", "?"),))


@pytest.mark.parametrize(
    "model",
    [
        "https://me:hidden-1@h.example/v1#m",
        "https://hidden-1@h.example/v1#m",
        "https://h.example/v1?key=hidden-1#m",
    ],
)
async def test_credentials_in_a_url_are_refused_where_they_would_be_stored(
    settings: Settings, model: str
) -> None:
    async with open_services(settings) as services:
        with pytest.raises(
            InvalidError, match=r"https://h\.example/v1#m.*KEY.*dspex secret create"
        ) as caught:
            await create(services.operations, model)
        assert "hidden-1" not in str(caught.value)
        for resource in DOMAIN.values():
            rows = await services.operations.dependencies.store.select(resource, Query(limit=1000))
            assert "hidden-1" not in repr(rows)


@pytest.mark.parametrize(
    "url", ["http://me:hidden-1@{place}/v1#m", "http://{place}/v1?key=hidden-1#m"]
)
async def test_credentials_in_the_url_of_the_settings_are_sent_and_shown_nowhere(
    settings: Settings, url: str
) -> None:
    async with LoopbackServer(
        REPLY, http_answer({"error": {"message": "no, hidden-1"}}, status=401)
    ) as server:
        place = server.url.split("/")[2]
        variant = dataclasses.replace(settings, model=url.format(place=place))
        assert variant.model == f"http://{place}/v1#m"
        assert "hidden-1" not in repr(variant)
        async with open_services(variant) as services:
            operations = services.operations
            await create_program(operations, CreateProgram(name="p", signature="q -> a"))
            first, second = [
                await execute_program(operations, ExecuteProgram(program="p", inputs={"q": "?"}))
                for _ in range(2)
            ]
            assert (first.status, second.status) == ("completed", "failed")
            text = repr([first, second])
            for resource in DOMAIN.values():
                text += repr(
                    list(await operations.dependencies.store.select(resource, Query(limit=1000)))
                )
            assert "hidden-1" not in text
        request = server.asked[0]
        assert ("authorization" in request.headers, "key=hidden-1" in request.path) in {
            (True, False),
            (False, True),
        }


class TestUnlocated(LanguageModelContract):
    """The model of the settings for other workspaces behaves like any model."""

    def make(self) -> LanguageModel:
        return HiddenAddressModel(ScriptedModel("Paris", capabilities=["streaming"]))


class TestUnlocatedEmbedder(EmbedderContract):
    def make(self) -> HiddenAddressEmbedder:
        return HiddenAddressEmbedder(HashingEmbedder())


async def test_a_workspace_chooses_embedders_under_the_rules_of_models() -> None:
    vectors = http_answer({"data": [{"embedding": [1, 0]}], "usage": {"prompt_tokens": 1}})
    async with LoopbackServer(vectors) as server:
        default = f"{server.url}/v1#small"
        settings = Settings(
            embedder=default, keys={"OPENAI_API_KEY": Secret("of the server, which is secret")}
        )
        own = Settings(keys={"GEMINI_API_KEY": Secret("of the workspace")})
        models = WorkspaceModels(ModelResolver(settings), ModelResolver(own))
        for text in (f"{server.url}/v1#other", "/models/x.gguf", "ollama/nomic-embed-text"):
            with pytest.raises(ConfigurationError, match="may be chosen by admins"):
                models.embedder(text)
        assert models.embedder("hash/16").dimensions == 16
        assert models.embedder("gemini/m").name == "gemini/m"
        embeddings = await models.embedder(default).embed(["a"])
        assert embeddings.model == "small"  # without the address
        assert models.embedder("openai/m").name == "openai/m"  # by the key of the server
        await models.server.aclose()
    assert "authorization" not in server.asked[0].headers


async def test_a_setting_with_too_many_values_is_refused_before_they_are_looked_at(
    settings: Settings,
) -> None:
    action = _ACTIONS["create_program"]
    async with open_services(settings) as services:
        operations = services.operations.as_actor(caller("default", "admin"))
        turns = [{"role": "user", "content": "hello"}] * 20_000
        request = CreateProgram(name="p", signature="q -> a", configuration={"messages": turns})
        with pytest.raises(InvalidError, match=r"configuration\.messages.*at most 50,000"):
            await operations.perform(action, request)
        few = dataclasses.replace(request, configuration={"messages": turns[:100]})
        with pytest.raises(InvalidError, match="Predict takes no 'messages'"):
            await operations.perform(action, few)
