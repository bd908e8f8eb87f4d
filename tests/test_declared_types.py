"""Every declared type, as input and as output, through every way of running a program.

The table is `support/declared_types.py`. Each way is a function from a type to the outputs as JSON;
its servers and workers are started once.
"""

import asyncio
import contextlib
import dataclasses
import importlib.util
import io
import json
import re
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.bootstrap import open_services
from dspex.evaluation import Dataset, aevaluate, exact_match
from dspex.execution.adapters.registry import ADAPTERS
from dspex.execution.backends import MockBackend
from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig
from dspex.execution.clients import Request
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot, build
from dspex.execution.workers import PoolConfig
from dspex.language.programs import Node, Program
from dspex.operations.framework.operations import Operations
from dspex.operations.jobs.job_engine import JobEngine
from dspex.operations.programs.stored_programs import save_program
from dspex.settings import Settings
from dspex.surfaces.api import ServerConfig, application
from dspex.surfaces.cli import main
from dspex.testing import ScriptedModel
from tests.support import declared_types
from tests.support.declared_types import (
    DECLARED_TYPES,
    REFERENCES,
    DeclaredType,
    Echo,
    signature_of,
)
from tests.support.serving import served
from tests.surfaces.api.client import IdleJobs, Server

Way = Callable[[DeclaredType], Any]
APP = """
from declared_types import DECLARED_TYPES, Echo

globals().update({f"echo_{row.name}": Echo(row.name) for row in DECLARED_TYPES})
"""
DSPY_APP = """
import dspy
from declared_types import DECLARED_TYPES

def module_of(row):
    fields = {"x": (row.hint, dspy.InputField()), "reply": (str, dspy.InputField())}
    fields["y"] = (row.hint, dspy.OutputField())

    class Echo(dspy.Module):
        def __init__(self):
            super().__init__()
            self.repeat = dspy.Predict(dspy.Signature(fields, "Repeat."))

        def forward(self, x, reply):
            return self.repeat(x=x, reply=reply)

    Echo.__name__ = Echo.__qualname__ = f"Echo_{row.name}"
    return Echo

for row in DECLARED_TYPES:
    if not isinstance(row.hint, str) and row.name not in OMITTED:
        globals()[f"Echo_{row.name}"] = module_of(row)
"""
# what dspy's modules do not take: our media classes, a TypedDict on Python 3.11, and an enumeration
# of numbers in text
OMITTED = (
    *(
        "image",
        "audio",
        "file",
        "document",
        "code",
        "history",
        "tool_calls",
        "citations",
        "typed_dict",
        "enum_int",
    ),
)
EXECUTE = (
    "mutation($input: ExecuteProgramInput!) { executeProgram(input: $input) { inputs outputs error "
    "} }"
)
# what models write for dspy's own types, and what dspy makes of it; it takes a choice by its text
# before its type
DSPY = {
    "literal_mixed": ("1", "1"),
    "image": (
        '{"url": "https://a.b/c.png"}',
        {"url": "https://a.b/c.png", "media_type": None, "detail": None},
    ),
    "audio": (
        '{"data": "UklGRg==", "audio_format": "wav"}',
        {"url": "data:audio/wav;base64,UklGRg==", "media_type": None},
    ),
    "file": (
        '{"file_data": "data:text/plain;base64,YQ==", "filename": "a.txt"}',
        {"url": "data:text/plain;base64,YQ==", "name": "a.txt", "media_type": None},
    ),
    "code": ("```python\nprint(1)\n```", {"text": "print(1)", "language": None}),
    "tool_calls": (
        '{"tool_calls": [{"name": "f", "args": {"a": 1}}]}',
        {"calls": [{"name": "f", "arguments": {"a": 1}, "id": None}]},
    ),
}
_REPLY = re.compile(r"\[\[ ## reply ## \]\]\n(.*?)\n\n(?:Answer with|Respond with)", re.DOTALL)


def repeat(request: Request) -> str:
    """Answer the `reply` of a prompt, in the layout that it asks for."""
    prompt = request.messages[-1].text
    if match := _REPLY.search(prompt):
        return f"[[ ## y ## ]]\n{match[1]}\n\n[[ ## completed ## ]]"
    text = prompt.partition("[[ ## reply ## ]]\n")[2]
    return f'{{"y": {text}}}'


def reply_of(row: DeclaredType, *, is_json: bool = False) -> str:
    """Return a value as a model writes it."""
    return row.value if isinstance(row.value, str) and not is_json else json.dumps(row.value)


def code_of(row: DeclaredType) -> Program:
    """Return a program that lives in code."""
    program = Echo(row.name).to_program(f"code_{row.name}")
    config = {**program.root.config, "target": "declared_types:Echo"}
    return dataclasses.replace(program, root=dataclasses.replace(program.root, config=config))


def data_of(row: DeclaredType, *, backend: str = "native") -> Program:
    """Return a program that is data alone: what a store gives back."""
    signature = signature_of(row.name, is_shown=row.name not in REFERENCES)
    root = Node(id="self", kind="predict", signature=signature, backend=backend)
    program = Program(name=f"data_{backend}_{row.name}", signature=signature, root=root)
    return Program.from_dict(json.loads(json.dumps(program.to_dict())))


def inputs_of(row: DeclaredType, program: Program, *, is_json: bool = False) -> dict[str, Any]:
    """Return the inputs of a program for a row, as JSON."""
    inputs = {"x": row.value, "reply": reply_of(row, is_json=is_json)}
    return {name: inputs[name] for name in program.signature.input_fields}


class Loop:
    """An event loop on a separate thread, with what lives on it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def call(self, work: Any, *, within: float = 120) -> Any:
        """Run a coroutine there, and return what it does."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(within)

    @contextlib.contextmanager
    def living(self, context: Any) -> Iterator[Any]:
        """Hold an async context, entered and left by one task."""
        value: asyncio.Future[Any] = self.loop.create_future()
        finished = asyncio.Event()

        async def hold() -> None:
            try:
                async with context as inner:
                    value.set_result(inner)
                    await finished.wait()
            except BaseException as error:
                if value.done():
                    raise
                value.set_exception(error)

        async def wait() -> Any:
            return await value

        task = asyncio.run_coroutine_threadsafe(hold(), self.loop)
        try:
            yield self.call(wait())
        finally:
            self.loop.call_soon_threadsafe(finished.set)
            task.result(60)

    def __enter__(self) -> "Loop":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(30)
        self.loop.close()


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    with Loop() as running:
        yield running


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    """The model string of a server that repeats."""
    with served({"m": ScriptedModel(repeat)}) as server:
        yield f"{server.url}#m"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A code root with every type in it.

    Its modules are forgotten afterwards: pytest builds this fixture again, in a new folder, where
    another process hands tests of this file back.
    """
    root = tmp_path_factory.mktemp("code")
    shutil.copy(declared_types.__file__, root / "declared_types.py")
    (root / "types_app.py").write_text(APP)
    (root / "dspy_types_app.py").write_text(f"OMITTED = {OMITTED!r}\n{DSPY_APP}")
    yield root
    for name in ("declared_types", "types_app", "dspy_types_app"):
        sys.modules.pop(name, None)


def in_process(row: DeclaredType, adapter: str) -> Any:
    """Run the module itself, and the module that its data builds."""
    is_json = adapter != "chat"
    outputs = []
    for module in (Echo(row.name), build(data_of(row))):
        program = data_of(row)
        inputs = {"x": row.value, **inputs_of(row, program, is_json=is_json)}
        inputs = {name: inputs[name] for name in module.contract().input_fields}
        context = RunContext(model=ScriptedModel(repeat), adapter=ADAPTERS[adapter])
        prediction = module(context, **module.contract().validate_inputs(inputs))
        outputs.append(module.contract().output_validator.dump(prediction.to_dict()))
    return outputs


@pytest.fixture(scope="module")
def chat() -> Way:
    return lambda row: in_process(row, "chat")


@pytest.fixture(scope="module")
def json_adapter() -> Way:
    return lambda row: in_process(row, "json")


@pytest.fixture(scope="module")
def tools() -> Way:
    return lambda row: in_process(row, "tools")


@pytest.fixture(scope="module")
def function() -> Way:
    """A typed function; the members of an object that it returns are its outputs."""

    async def run(row: DeclaredType) -> Any:
        def repeated(taken: Any) -> Any:
            return taken

        if isinstance(row.hint, str):
            return []  # a type in the words of the grammar, not an annotation
        repeated.__annotations__ = {"taken": row.hint, "return": row.hint}
        program = dspex.program(repeated)
        outputs = program.contract().output_validator.dump(
            (await program.acall(RunContext(), taken=row.value)).to_dict()
        )
        return [{"y": outputs["result"] if list(outputs) == ["result"] else outputs}]

    return lambda row: asyncio.run(run(row))


@pytest.fixture(scope="module")
def evaluation() -> Way:
    """Rows of JSON, and rows of text as in a csv: both are the expected answers."""

    async def run(row: DeclaredType) -> Any:
        context = RunContext(model=ScriptedModel(repeat))
        for value in (row.value, reply_of(row)):
            data = Dataset.from_rows([{"x": value, "reply": reply_of(row), "y": value}])
            report = await aevaluate(Echo(row.name), data, exact_match, context=context)
            assert [entry.error for entry in report.rows] == [None]
            assert report.mean == 1.0
        return []

    return lambda row: asyncio.run(run(row))


@pytest.fixture(scope="module")
def mock() -> Way:
    """The mock makes its values up: they have to be outputs, and to stay what they are."""

    async def run(row: DeclaredType) -> Any:
        backend, program = MockBackend(), data_of(row)
        handle = await backend.create_program(program)
        prediction = await backend.execute_program(handle, inputs_of(row, program), RunContext())
        validator = signature_of(row.name).output_validator  # with the classes
        value = validator.dump(validator(prediction.to_dict()))
        assert validator.dump(validator(value)) == value
        return [{"y": row.value}]

    return lambda row: asyncio.run(run(row))


@pytest.fixture(scope="module")
def opened(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    state = tmp_path_factory.mktemp("open")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        code = CodeRoot(folder)
        with dspex.open(state) as store, dspex.context(model=ScriptedModel(repeat)):

            def run(row: DeclaredType) -> Any:
                outputs = []
                for module in (code.load(f"types_app:echo_{row.name}"), build(data_of(row))):
                    inputs = {"x": row.value, "reply": reply_of(row)}
                    values = module.contract().validate_inputs(
                        {name: inputs[name] for name in module.contract().input_fields}
                    )
                    prediction = module(**values)
                    (execution,) = store.executions(limit=1)
                    assert execution.inputs == {name: inputs[name] for name in execution.inputs}
                    outputs += [
                        module.contract().output_validator.dump(prediction.to_dict()),
                        execution.outputs,
                    ]
                return outputs

            yield run


@pytest.fixture(scope="module")
def cli(folder: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    state = str(tmp_path_factory.mktemp("cli"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))

        def run(row: DeclaredType) -> Any:
            arguments = [
                f"x={reply_of(row)}",
                f"reply={reply_of(row)}",
                "--model",
                model,
                "--state-dir",
                state,
                "--json",
            ]
            out = io.StringIO()
            with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
                main(["run", f"types_app.py:echo_{row.name}", *arguments])
            execution = json.loads(out.getvalue())
            assert execution["error"] is None, execution["error"]
            assert execution["inputs"]["x"] == row.value
            return [execution["outputs"]]

        yield run


@contextlib.asynccontextmanager
async def application_of(folder: Path, settings: Settings) -> AsyncIterator[Server]:
    """Give a running application with a code root."""
    async with open_services(settings, code=CodeRoot(folder)) as services:

        @contextlib.asynccontextmanager
        async def opened_services() -> AsyncIterator[Any]:
            yield services

        dependencies = services.operations.dependencies.with_services({JobEngine: IdleJobs()})
        services = dataclasses.replace(services, operations=Operations(dependencies))
        app = application(opened_services, ServerConfig())
        async with app.router.lifespan_context(app):
            yield Server(app, services)


async def executed(server: Server, program: Program, row: DeclaredType) -> Any:
    """Store a program and execute it by GraphQL; return its outputs."""
    await save_program(server.services.operations, program)
    inputs = inputs_of(row, program)
    answer = await server.graphql(EXECUTE, input={"program": program.name, "inputs": inputs})
    assert "errors" not in answer, answer["errors"][0]["message"]
    execution = answer["data"]["executeProgram"]
    assert execution["error"] is None, execution["error"]
    assert execution["inputs"] == inputs
    return execution["outputs"]


def server_way(
    loop: Loop, folder: Path, settings: Settings, programs: Callable[[DeclaredType], list[Program]]
) -> Any:
    @contextlib.contextmanager
    def running() -> Iterator[Way]:
        with loop.living(application_of(folder, settings)) as server:

            def run(row: DeclaredType) -> Any:
                return [loop.call(executed(server, program, row)) for program in programs(row)]

            yield run

    return running()


@pytest.fixture(scope="module")
def inline_server(
    loop: Loop, folder: Path, model: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Way]:
    settings = Settings(state_dir=tmp_path_factory.mktemp("inline"), model=model)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        with server_way(loop, folder, settings, lambda row: [code_of(row), data_of(row)]) as way:
            yield way


@pytest.fixture(scope="module")
def isolated_server(
    loop: Loop, folder: Path, model: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Way]:
    settings = Settings(
        state_dir=tmp_path_factory.mktemp("isolated"), model=model, isolation="process"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        programs = lambda row: [code_of(row), data_of(row, backend="isolated")]  # noqa: E731
        with server_way(loop, folder, settings, programs) as way:
            yield way


@pytest.fixture(scope="module")
def bridge(loop: Loop, folder: Path) -> Iterator[DspyBackend]:
    if importlib.util.find_spec("dspy") is None:
        pytest.skip("dspy is not installed here: pip install 'dspex[dspy]'")
    pool = PoolConfig(name="dspy", minimum=1, maximum=1)
    config = DspyConfig(interpreter=sys.executable, pool=pool, paths=(str(folder),))
    with loop.living(DspyBackend(config)) as backend:
        yield backend


async def executed_by_dspy(bridge: DspyBackend, program: Program, row: DeclaredType) -> Any:
    """Run a program on dspy, whose own types are answered in its own words."""
    handle = await bridge.create_program(program)
    reply, value = DSPY.get(row.name, (reply_of(row), row.value))
    inputs = {**inputs_of(row, program), "reply": reply}
    prediction = await bridge.execute_program(
        handle, inputs, RunContext(model=ScriptedModel(repeat))
    )
    assert program.signature.output_validator.dump(prediction.to_dict()) == {"y": value}
    return [{"y": row.value}]


@pytest.fixture(scope="module")
def dspy(loop: Loop, bridge: DspyBackend) -> Way:
    return lambda row: loop.call(executed_by_dspy(bridge, data_of(row, backend="dspy"), row))


@pytest.fixture(scope="module")
def dspy_module(loop: Loop, bridge: DspyBackend) -> Way:
    """A module that was written for dspy, with the same types."""

    async def run(row: DeclaredType) -> Any:
        if isinstance(row.hint, str) or row.name in OMITTED:
            return []
        return await executed_by_dspy(
            bridge, await bridge.import_program(f"dspy_types_app:Echo_{row.name}"), row
        )

    return lambda row: loop.call(run(row))


WAYS = [
    *("function", "evaluation", "chat", "json_adapter", "tools", "mock"),
    *(pytest.param(name, marks=pytest.mark.full) for name in ("opened", "cli", "inline_server")),
    *(
        pytest.param(name, marks=pytest.mark.full)
        for name in ("isolated_server", "dspy", "dspy_module")
    ),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("row", DECLARED_TYPES, ids=lambda row: row.name)
def test_a_declared_type_goes_in_and_comes_out(
    row: DeclaredType, way: str, request: pytest.FixtureRequest
) -> None:
    run: Way = request.getfixturevalue(way)
    for outputs in run(row):
        assert outputs == {"y": row.value}
