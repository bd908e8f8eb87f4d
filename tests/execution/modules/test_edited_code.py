"""Code that is edited while a process runs: what ran is what the version says."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import dspex
from dspex.errors import ConflictError, DefinitionError
from dspex.execution.modules import CodeRoot, build
from dspex.language.programs import Program

SHOUT = """
import dspex

@dspex.program
def shout(text: str) -> str:
    "Shout."
    return text.upper() + "{mark}"

class Whole(dspex.Module):
    signature = "text -> result"

    def __init__(self):
        from importlib import import_module

        self.part = import_module("{parts}").Part()

    async def forward(self, text):
        return await self.part.acall(text=text)
"""
PART = """
import dspex

class Part(dspex.Module):
    signature = "text -> result"

    async def forward(self, text):
        return {{"result": text + "{mark}"}}
"""
AGENT = """
import dspex

def look(word: str) -> str:
    "Look up."
    return "{mark}"

agent = dspex.ReAct("q -> a", [look])
"""


@pytest.fixture
def root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> CodeRoot:
    """A code root whose modules no other test has."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    return CodeRoot(tmp_path, name=f"edited_{abs(hash(request.node.nodeid))}")


def write(root: CodeRoot, name: str, text: str, **values: str) -> str:
    module = f"{root.name}_{name}"
    (root.folder / f"{module}.py").write_text(text.format(**values))
    return module


def stored_elsewhere(root: CodeRoot, target: str) -> Program:
    """What another process stores of the file as it is now."""
    module, _, name = target.partition(":")
    loaded = {key: sys.modules.pop(key) for key in list(sys.modules) if key.startswith(root.name)}
    try:
        code = root.load(f"{module}:{name}")
        return Program.from_dict(
            (code() if isinstance(code, type) else code).to_program("p").to_dict()
        )
    finally:
        for key in [key for key in sys.modules if key.startswith(root.name)]:
            del sys.modules[key]
        sys.modules.update(loaded)


def test_an_edit_of_the_same_length_in_the_same_second_is_seen(root):
    module = write(root, "app", SHOUT, mark="1", parts="")
    first = stored_elsewhere(root, f"{module}:shout")
    assert build(first, code=root)(text="a").result == "A1"
    write(root, "app", SHOUT, mark="2", parts="")
    second = stored_elsewhere(root, f"{module}:shout")
    assert first.content_hash != second.content_hash
    assert build(second, code=root)(text="a").result == "A2"


def test_what_was_built_before_an_edit_keeps_its_code(root):
    module = write(root, "app", SHOUT, mark="1", parts="")
    old = build(root.load(f"{module}:shout").to_program("p"), code=root)
    write(root, "app", SHOUT, mark="2", parts="")
    new = build(stored_elsewhere(root, f"{module}:shout"), code=root)
    assert (old(text="a").result, new(text="a").result) == ("A1", "A2")
    assert old.to_program("p").content_hash != new.to_program("p").content_hash
    with pytest.raises(ConflictError, match="changed since"):
        build(old.to_program("p"), code=root)


def test_a_part_in_another_file_is_compared_too(root):
    parts = write(root, "parts", PART, mark="1")
    module = write(root, "app", SHOUT, mark="-", parts=parts)
    first = root.load(f"{module}:Whole")().to_program("p")
    assert build(first, code=root)(text="a").result == "a1"
    write(root, "parts", PART, mark="2")
    # what is loaded, and what the file holds, differ from each other
    with pytest.raises(ConflictError, match="Part"):
        build(Program.from_dict(_with_source(first.to_dict(), "0" * 64)), code=root)
    second = stored_elsewhere(root, f"{module}:Whole")
    assert build(second, code=root)(text="a").result == "a2"


def _with_source(program, source):
    program["definition"]["root"]["children"]["part"]["config"]["source_hash"] = source
    return program


def test_a_tool_is_compared_too(root):
    module = write(root, "agent", AGENT, mark="1")
    root.load(f"{module}:agent")
    write(root, "agent", AGENT, mark="2")
    agent: Any = build(stored_elsewhere(root, f"{module}:agent"), code=root)
    assert agent.tools["look"].call("x") == "2"


def test_code_that_no_longer_imports_leaves_the_old_in_use(root):
    module = write(root, "app", SHOUT, mark="1", parts="")
    old = root.load(f"{module}:shout")
    broken = (
        SHOUT.format(mark="2", parts="")
        + "\nif __name__ in __import__('sys').stopped: raise SystemExit(3)\n"
    )
    (root.folder / f"{module}.py").write_text(broken)
    sys.__dict__["stopped"] = ()
    try:
        program = stored_elsewhere(root, f"{module}:shout")
        sys.__dict__["stopped"] = (module,)
        with pytest.raises(DefinitionError, match="again beside the loaded code"):
            build(program, code=root)
    finally:
        del sys.__dict__["stopped"]
    assert root.load(f"{module}:shout") is old
    assert build(old.to_program("p"), code=root)(text="a").result == "A1"


def test_code_that_others_imported_is_refused_and_left_alone(root, monkeypatch):
    module = write(root, "app", SHOUT, mark="1", parts="")
    monkeypatch.syspath_prepend(str(root.folder))
    monkeypatch.setattr(
        sys, "meta_path", [finder for finder in sys.meta_path if not hasattr(finder, "folders")]
    )
    imported = __import__(module)
    before = imported.shout.to_program("p")
    write(root, "app", SHOUT, mark="3", parts="")
    assert imported.shout.to_program("p").content_hash == before.content_hash
    program = stored_elsewhere(root, f"{module}:shout")
    assert program.content_hash != before.content_hash
    with pytest.raises(ConflictError, match="restart this process"):
        build(program, code=root)
    assert sys.modules[module] is imported


def test_packages_that_are_installed_below_the_folder_are_not_the_users_code(root):
    from dspex.execution.modules.source import is_below

    assert is_below(str(root.folder / "a.py"), root.folder)
    assert not is_below(str(root.folder / ".venv/lib/python3.12/site-packages/a.py"), root.folder)


def test_classes_of_notebooks_which_have_no_file_work_and_cannot_be_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notebook = ModuleType("notebook_without_file")
    monkeypatch.setitem(sys.modules, notebook.__name__, notebook)
    exec(SHOUT.format(mark="!", parts="none"), vars(notebook))  # noqa: S102  # as a notebook does
    assert notebook.shout(text="hi").result == "HI!"
    assert issubclass(notebook.Whole, dspex.Module)
    with pytest.raises(DefinitionError):
        notebook.shout.to_program()
