"""The classes of a module's signature, wherever the stored program runs."""

import asyncio
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.execution.backends import IsolatedBackend, NativeBackend
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot
from dspex.execution.workers import PoolConfig
from dspex.surfaces.cli import main

APP = """
import enum

import pydantic

import dspex


class Tone(enum.Enum):
    LOUD = "loud"


class Word(pydantic.BaseModel):
    text: str

    def shouted(self):
        return self.text.upper()


class Shout(dspex.Signature):
    \"\"\"Say it louder.\"\"\"

    words: list[Word]
    tone: Tone
    loud: str = dspex.Output()


class Shouting(dspex.Module):
    signature = Shout

    async def forward(self, words, tone):
        return {"loud": " ".join(word.shouted() for word in words) + f", {tone.name}"}


shout = Shouting()
"""
INPUTS = {"words": [{"text": "hear"}, {"text": "me"}], "tone": "loud"}


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "shouting.py").write_text(textwrap.dedent(APP))
    yield import_module("shouting")
    del sys.modules["shouting"]


async def test_a_stored_program_gets_instances_of_the_classes_in_its_file(app: Any) -> None:
    backend = NativeBackend(code=CodeRoot(Path.cwd()))
    program = app.shout.to_program()
    handle = await backend.create_program(program)
    inputs = program.from_dict(program.to_dict()).signature.validate_inputs(INPUTS)
    assert (await backend.execute_program(handle, inputs, RunContext())).loud == "HEAR ME, LOUD"


@pytest.mark.bridge
async def test_so_does_one_in_a_process_of_its_own(app: Any) -> None:
    pool = PoolConfig(name="native")
    async with (
        asyncio.timeout(30),
        IsolatedBackend(code=CodeRoot(Path.cwd()), pool=pool) as backend,
    ):
        handle = await backend.create_program(app.shout.to_program())
        assert (await backend.execute_program(handle, INPUTS, RunContext())).loud == "HEAR ME, LOUD"


def test_so_does_one_on_the_command_line(app: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["run", "shouting.py:shout", 'words=[{"text": "hear"}]', "tone=loud", "--json"])
    assert exit_info.value.code == 0
    assert '"HEAR, LOUD"' in capsys.readouterr().out


def test_a_recorded_call_gets_the_very_instances_of_its_caller(app: Any) -> None:
    class Twice(app.Word):
        def shouted(self) -> str:
            return f"{self.text} {self.text}".upper()

    with dspex.open() as store:
        assert app.shout(words=[Twice(text="hear")], tone=app.Tone.LOUD).loud == "HEAR HEAR, LOUD"
        [row] = store.executions()
    assert row.inputs == {"words": [{"text": "hear"}], "tone": "loud"}
