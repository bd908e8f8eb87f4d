"""Models with a name: in the library, on the command line and for the workspaces of a server."""

import json

import pytest

from dspex.bootstrap.models import HiddenAddressModel, WorkspaceModels
from dspex.errors import ConfigurationError, ModelError
from dspex.execution.clients import Request
from dspex.execution.clients.budgeted import Budgeted
from dspex.execution.clients.caching import Caching
from dspex.execution.clients.identity import identify
from dspex.execution.clients.routing import Route
from dspex.language.records import Message
from dspex.session import ModelResolver, check_model, check_models
from dspex.settings import Settings
from dspex.testing import LoopbackServer, http_answer
from tests.support.command_server import run_dspex

REPLY = {"choices": [{"message": {"content": "ok"}}], "usage": {"prompt_tokens": 3}}
REQUEST = Request(messages=(Message("user", "hi"),))


def resolver(**models):
    return ModelResolver(Settings(models=models))


def test_a_name_gives_the_same_model_with_its_wrappers():
    models = resolver(
        a={"model": "ollama/x", "cache": True, "budget": {"calls": 3}},
        b={"models": ("a", "ollama/y"), "policy": "cost", "attempts": 2},
    )
    a, b = models("a"), models("b")
    assert isinstance(a, Caching)
    assert isinstance(a.model, Budgeted)
    assert isinstance(b, Route)
    assert (b.name, b.policy.name, b.attempts, b.models[0]) == ("b", "cost", 2, a)
    assert models("b") is b


def test_new_keys_make_new_models_and_keep_what_is_spent():
    models = resolver(a={"model": "ollama/x", "budget": {"calls": 3}})
    before = models("a")
    models.rekey({"OPENAI_API_KEY": None})
    after = models("a")
    assert isinstance(before, Budgeted)
    assert isinstance(after, Budgeted)
    assert after is not before
    assert after.budget is before.budget


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"a": {"model": "nowhere"}}, r"models\.a\.model: unknown model 'nowhere'"),
        ({"a": {"models": ("b",)}, "b": {"model": "a"}}, "in a circle: a -> b -> a"),
        ({"a": {"model": "a"}}, "in a circle: a -> a"),
        ({"a": {"model": "ollama/x", "fallback": ("openia/x",)}}, r"models\.a\.fallback"),
        ({"a": {"model": "x.gguf", "extra_body": {"b": 1}}}, r"models\.a\.extra_body"),
    ],
)
def test_what_tables_refer_to_is_checked(models, message):
    with pytest.raises(ConfigurationError, match=message):
        check_models(models)
    with pytest.raises(ConfigurationError, match=message):
        resolver(**models)("a")


def test_a_name_is_a_model_string_where_it_is_configured_only():
    check_model("main", {"main": {}})
    with pytest.raises(ConfigurationError, match="unknown model 'main'"):
        check_model("main")


async def test_the_extra_body_is_sent_and_belongs_to_the_identity():
    async with LoopbackServer(http_answer(REPLY)) as server:
        text = f"{server.url}/v1#m"
        models = resolver(a={"model": text, "extra_body": {"effort": "low"}}, b={"model": text})
        await models("a").complete(REQUEST)
        await models("b").complete(REQUEST)
        await models.aclose()
    bodies = [json.loads(request.body) for request in server.asked]
    assert [body.get("effort") for body in bodies] == ["low", None]
    assert identify(models("a")) != identify(models("b"))


async def test_other_workspaces_use_a_name_without_its_addresses():
    server = resolver(main={"models": ("http://127.0.0.1:9/v1#m",), "attempts": 1})
    model = WorkspaceModels(server, ModelResolver(Settings()))("main")
    assert isinstance(model, HiddenAddressModel)
    with pytest.raises(ModelError) as info:
        await model.complete(REQUEST)
    assert info.value.route is None
    await server.aclose()


FILE = """
model = "main"
[models.main]
models = ["down", "http://127.0.0.1:9/v1#second"]
policy = "hedged"
[models.down]
model = "http://127.0.0.1:9/v1#first"
timeout = 1
"""


def test_the_command_line_lists_checks_and_explains_them(tmp_path):
    (tmp_path / "dspex.toml").write_text(FILE)
    rows = json.loads(run_dspex(tmp_path, "model", "list", "--json").stdout)["models"]
    assert [row["name"] for row in rows] == ["main", "down", "(default)"]
    assert rows[0]["kind"] == "route: hedged"
    check = run_dspex(tmp_path, "model", "check", "main", "--json")
    rows = json.loads(check.stdout)["models"]
    assert check.returncode == 1
    assert [row["model"] for row in rows] == ["down", "http://127.0.0.1:9/v1#second"]
    assert all(row["status"] == "failed" and "cannot reach" in row["error"] for row in rows)
    explanation = json.loads(run_dspex(tmp_path, "route", "explain", "main", "--json").stdout)
    assert [row["chosen"] for row in explanation["models"]] == [True, False]
    error = run_dspex(tmp_path, "route", "explain", "mian").stderr
    assert "Did you mean 'main'" in error
    assert "unknown model 'mian'" in run_dspex(tmp_path, "doctor", DSPEX_MODEL="mian").stdout + (
        run_dspex(tmp_path, "model", "list", DSPEX_MODEL="mian").stderr
    )
