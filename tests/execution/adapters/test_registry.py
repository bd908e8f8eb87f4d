"""Adapters of users: registered by name, then stored, built and run anywhere by that name."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.adapters import ChatAdapter, register_adapter
from dspex.bootstrap import open_services
from dspex.bootstrap.checks import checked_settings
from dspex.errors import AdapterError, ConfigurationError, DefinitionError
from dspex.execution.adapters.registry import ADAPTERS
from dspex.execution.backends import IsolatedBackend
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot, build
from dspex.language.programs import Program
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.settings import Settings
from dspex.testing import LoopbackServer, ScriptedModel, http_answer
from dspex.testing.contracts import AdapterContract

CODE = '''
from dspex.adapters import ChatAdapter


class ShoutAdapter(ChatAdapter):
    """Reads the whole reply as the only output."""

    name = "shout"

    def parse(self, signature, reply):
        return signature.output_validator(dict.fromkeys(signature.output_fields, reply.upper()))
'''


class WholeAdapter(ChatAdapter):
    """Reads the whole reply as the only output."""

    name = "whole"

    def parse(self, signature: Any, reply: str) -> dict[str, Any]:
        return dict(signature.output_validator(dict.fromkeys(signature.output_fields, reply)))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", cache_dir=tmp_path / "cache")


@pytest.fixture
def code(tmp_path: Path) -> Iterator[CodeRoot]:
    (tmp_path / "shouting.py").write_text(CODE)
    yield CodeRoot(tmp_path)
    sys.modules.pop("shouting", None)
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


class TestRegistered(AdapterContract):
    """The contract that a user's adapter has to keep."""

    def make(self) -> ChatAdapter:
        register_adapter(type("MyChat", (ChatAdapter,), {"name": "my_chat"}))
        return ADAPTERS["my_chat"]  # type: ignore[return-value]


@pytest.mark.parametrize("adapter", ["whole", WholeAdapter()], ids=["name", "object"])
def test_a_program_with_a_registered_adapter_is_stored_and_built(adapter: Any) -> None:
    register_adapter(WholeAdapter)
    program = dspex.Predict("q -> a", adapter=adapter).to_program()
    module = build(Program.from_json(program.to_json()))
    assert module(RunContext(model=ScriptedModel("yes")), q="?").a == "yes"


def test_values_that_do_not_fit_are_repaired_in_the_layout_of_an_adapter() -> None:
    register_adapter(WholeAdapter())
    model = ScriptedModel("many", "5")
    assert dspex.Predict("q -> a: int", adapter="whole")(RunContext(model=model), q="?").a == 5
    assert "a: must be int" in model.requests[1].messages[-1].text
    model = ScriptedModel("many")
    with pytest.raises(AdapterError, match=r"a: must be int.*\n.*\n.*layout 'json'"):
        dspex.Predict("q -> a: int", adapter="whole")(RunContext(model=model), q="?")


@pytest.mark.parametrize("outputs", [{"b": 1}, {"a": "x", "b": 1}, {}])
def test_outputs_of_an_adapter_that_are_not_those_of_the_signature_are_refused(
    outputs: dict[str, Any],
) -> None:
    class Broken(ChatAdapter):
        name = "broken"

        def parse(self, signature: Any, reply: str) -> dict[str, Any]:
            return outputs

    predict = dspex.Predict("q -> a", adapter=Broken())
    with pytest.raises(AdapterError, match=r"b: unknown field|a: required"):
        predict(RunContext(model=ScriptedModel("yes")), q="?")


def test_a_saved_state_and_a_variable_name_it(tmp_path: Path) -> None:
    register_adapter(WholeAdapter())
    dspex.Predict("q -> a", adapter="whole").save(tmp_path / "ask.json")
    module = dspex.load(tmp_path / "ask.json")
    assert module(RunContext(model=ScriptedModel("yes")), q="?").a == "yes"
    choice = dspex.Predict("q -> a", adapter=dspex.OneOf("chat", "whole")).to_program()
    module = build(choice.assign({"self.adapter": "whole"}))
    assert module(RunContext(model=ScriptedModel("no")), q="?").a == "no"
    ADAPTERS._custom.clear()
    with pytest.raises(
        ConfigurationError, match=r"unknown adapter 'whole'.*chat, json, tools, xml"
    ):
        dspex.load(tmp_path / "ask.json")


def test_an_adapter_that_is_not_registered_cannot_be_stored() -> None:
    predict = dspex.Predict("q -> a", adapter=WholeAdapter())
    assert predict(RunContext(model=ScriptedModel("yes")), q="?").a == "yes"
    with pytest.raises(DefinitionError, match="register_adapter"):
        predict.to_program()


def test_an_unknown_name_says_how_to_register_one() -> None:
    with pytest.raises(ConfigurationError, match=r"\[adapters\] in dspex.toml: hole = "):
        dspex.Predict("q -> a", adapter="hole")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"name": "chat"}, "which is the adapter of dspex"),
        ({"name": "whole"}, "which is the adapter of .*WholeAdapter"),
        ({"name": "a b"}, "needs a `name`"),
        ({"name": 3}, "not 3"),
        ({"name": "half", "parse": None}, "no method `parse`"),
    ],
)
def test_what_is_no_adapter_or_has_the_name_of_another_is_refused(
    members: dict[str, Any], message: str
) -> None:
    register_adapter(WholeAdapter)
    with pytest.raises(ConfigurationError, match=message):
        register_adapter(type("Other", (ChatAdapter,), members))
    assert [*ADAPTERS] == ["chat", "json", "tools", "xml", "whole"]


def test_settings_load_adapters_from_the_code_root(
    code: CodeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(code.folder)
    file = code.folder / "dspex.toml"
    file.write_text('adapter = "shout"\n[adapters]\nshout = "shouting:ShoutAdapter"\n')
    assert checked_settings(code=code).adapter == "shout"
    assert "shout" in ADAPTERS
    file.write_text(
        '[adapters]\nloud = "shouting:ShoutAdapter"\nno = "shouting:No"\npath = "shouting:CODE"\n'
    )
    with pytest.raises(ConfigurationError) as caught:
        checked_settings(code=code)
    assert "is named 'shout', not 'loud'" in caught.value.message
    assert "adapters.no" in caught.value.message


@pytest.mark.full
async def test_a_program_over_the_api_names_a_registered_adapter(
    settings: Settings, code: CodeRoot
) -> None:
    with_adapter = dataclasses.replace(settings, adapters={"shout": "shouting:ShoutAdapter"})
    reply = http_answer({"choices": [{"message": {"content": "yes"}}]})
    async with LoopbackServer(reply) as server, open_services(with_adapter, code=code) as services:
        configuration = {"adapter": "shout", "model": f"{server.url}/v1#m"}
        program = CreateProgram(name="ask", signature="q -> a", configuration=configuration)
        await create_program(services.operations, program)
        execution = await execute_program(
            services.operations, ExecuteProgram(program="ask", inputs={"q": "?"})
        )
        assert execution.outputs == {"a": "YES"}


@pytest.mark.bridge
async def test_a_worker_registers_the_adapters_that_a_program_and_its_caller_name(
    code: CodeRoot,
) -> None:
    shout = register_adapter(code.load("shouting:ShoutAdapter"))()
    async with IsolatedBackend(code=code) as backend:
        named = dspex.Predict("q -> a", adapter="shout").to_program()
        unnamed = dspex.Predict("q -> a, b").to_program()
        for program, context in (
            (named, RunContext(model=ScriptedModel("yes"))),
            (unnamed, RunContext(model=ScriptedModel("yes"), adapter=shout)),
        ):
            handle = await backend.create_program(program)
            assert (await backend.execute_program(handle, {"q": "?"}, context)).a == "YES"
