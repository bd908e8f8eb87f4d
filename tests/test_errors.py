"""Where an exception comes from.

The user's own line, relative to the folder that its file was imported from.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from dspex.error_text import MOST_FRAMES, frames_of, place_of
from dspex.errors import (
    DefinitionError,
    ExecutionError,
    FieldError,
    RateLimitedError,
    ToolError,
    boundary,
    describe,
)
from dspex.execution.modules import CodeRoot
from dspex.execution.workers.child import place as child_place
from dspex.failures import frames_text, user_frames, without_frames

SOURCE = """
import asyncio, json

def key(row):
    return row["key"]

def parse(text):
    return json.loads(text)

class Deep:
    def run(self):
        return key({})

async def group():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(leaf())

async def leaf():
    key({})

def caused():
    try:
        key({})
    except KeyError as error:
        raise ValueError("second") from error
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the user inside a package, in a folder with a telling name."""
    folder = tmp_path / "secret_home"
    (folder / "shop").mkdir(parents=True)
    (folder / "shop" / "__init__.py").write_text(
        "from .work import key\n\ndef above():\n    return key({})\n"
    )
    (folder / "shop" / "work.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(folder))
    import_module("shop.work")
    yield import_module("shop")
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]


def caught(function: Any, *arguments: Any) -> Exception:
    with pytest.raises(Exception) as error:  # noqa: PT011  # whatever it raises
        function(*arguments)
    return error.value


def test_the_deepest_line_of_the_user_is_named(code):
    # the library's own lines are left out
    for function, place in (
        (lambda: code.work.Deep().run(), "shop/work.py:5 in key"),
        (lambda: code.work.parse("{"), "shop/work.py:8 in parse"),
        (code.above, "shop/work.py:5 in key"),
        (code.work.caused, "shop/work.py:25 in caused"),
    ):
        error = caught(function)
        assert place_of(error) == place
        assert child_place.place_of(error) == place
        assert child_place.frames_of(error) == frames_of(error)
    assert describe(caught(code.work.key, {})) == "KeyError: 'key' (shop/work.py:5 in key)"


def test_of_a_group_the_first_one_is_described(code):
    import asyncio

    error = caught(lambda: asyncio.run(code.work.group()))
    assert describe(error) == "KeyError: 'key' (shop/work.py:5 in key)"


def test_an_error_of_dspex_has_the_place_of_its_cause_once(code):
    def fail() -> None:
        with boundary(ExecutionError, "the program failed"):
            code.work.key({})

    error = caught(fail)
    assert str(error) == "the program failed: KeyError: 'key' (shop/work.py:5 in key)"
    assert describe(error) == f"ExecutionError: {error}"
    wrapped = ToolError("look failed: KeyError: 'key'")
    wrapped.__cause__ = caught(code.work.key, {})
    assert describe(wrapped) == "ToolError: look failed: KeyError: 'key' (shop/work.py:5 in key)"
    assert describe(DefinitionError("no cause")) == "DefinitionError: no cause"


def test_what_nobody_raised_has_no_place():
    assert describe(ValueError("made, not raised")) == "ValueError: made, not raised"
    assert place_of(None) == ""


def test_an_error_with_another_message_keeps_its_class_and_attributes() -> None:
    wrong = FieldError(field="a", path="a", value=1, message="m", constraint="c", expected="e")
    error = RateLimitedError("slow down", status=429, retry_after=2.0, errors=[wrong], host="h")
    error.execution_id = "e1"
    changed = error.with_message("later: slow down", host="g", limit="rpm")
    assert type(changed) is RateLimitedError
    assert (str(changed), changed.message, changed.public_message) == ("later: slow down",) * 3
    assert (changed.status, changed.retry_after, changed.fields) == (429, 2.0, (wrong,))
    assert (changed.execution_id, changed.context) == ("e1", {"host": "g", "limit": "rpm"})
    assert (str(error), error.context) == ("slow down", {"host": "h"})
    private = ToolError("secret", public_message="the tool failed").with_message("more secrets")
    assert private.public_message == "the tool failed"


def test_import_errors_of_the_code_root_keep_their_attributes(tmp_path: Path) -> None:
    (tmp_path / "limits_of_shop.py").write_text(
        "from dspex.errors import RateLimitedError\n\n"
        "raise RateLimitedError('slow down', status=429, retry_after=2.0)\n"
    )
    with pytest.raises(RateLimitedError, match="slow down") as error:
        CodeRoot(tmp_path).load("limits_of_shop:Shop")
    assert (error.value.status, error.value.retry_after) == (429, 2.0)


def test_the_lines_of_the_user_are_data_without_folders_and_values(code: Any) -> None:
    def fail() -> None:
        with boundary(ExecutionError, "the program failed"):
            code.work.Deep().run()

    frames = user_frames(caught(fail))
    assert frames[-2:] == [
        {"file": "shop/work.py", "line": 12, "function": "Deep.run", "code": "return key({})"},
        {"file": "shop/work.py", "line": 5, "function": "key", "code": 'return row["key"]'},
    ]
    assert "secret_home" not in str(frames)
    assert frames_text(frames[-1:]) == '  shop/work.py:5 in key\n    return row["key"]'
    assert user_frames(ValueError("made, not raised")) == []


def test_lines_of_the_user_are_bounded_in_number_and_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "x" * 900
    (tmp_path / "deep_shop.py").write_text(
        f"def dig(n):\n    return dig(n - 1) if n else int('{text}')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    frames = user_frames(caught(import_module("deep_shop").dig, 50))
    assert len(frames) == MOST_FRAMES
    assert {len(frame["code"]) for frame in frames} == {200}


def test_a_line_that_cannot_be_read_is_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torn_shop.py").write_text("import torn_part\n")
    (tmp_path / "torn_part.py").write_text("price = 3\nif price\n")
    frames = user_frames(caught(CodeRoot(tmp_path).load, "torn_shop:Shop"))
    assert [(frame["file"], frame["line"], frame["code"]) for frame in frames[-2:]] == [
        ("torn_shop.py", 1, "import torn_part"),
        ("torn_part.py", 2, "if price"),
    ]


def test_lines_of_code_can_be_left_out_of_failures_and_traces() -> None:
    frames = [{"file": "a.py", "line": 1, "function": "f", "code": "f()"}]
    assert without_frames({"code": "execution", "frames": frames}) == {"code": "execution"}
    span = {"error": "KeyError", "attributes": {"frames": frames, "backend": "native"}}
    assert without_frames({"trace_id": "t", "spans": [span, {"error": None}]}) == {
        "trace_id": "t",
        "spans": [{"error": "KeyError", "attributes": {"backend": "native"}}, {"error": None}],
    }
    assert without_frames(None) is None
