"""Parallel: run a module on many rows at once, or many modules."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dspex.arguments import checks_names
from dspex.error_text import shorten
from dspex.errors import DefinitionError, DspexError, ExecutionError, InputError, boundary
from dspex.execution.modules.attempts import check_count, check_module
from dspex.execution.modules.inner import INNER_SETTINGS, check_settings, inner_module
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind
from dspex.language.programs import ModulePath, Node, Program
from dspex.language.signatures import Signature

if TYPE_CHECKING:
    from dspex.language.records import Prediction

ParallelRow = Mapping[str, Any] | tuple[Module, Mapping[str, Any]]


@checks_names
class Parallel(Module):
    """Runs a module on every row, several at a time; `results` are in the order of the rows.

    A row is the inputs of the module, or a pair of a module and its inputs. A row that fails has
    None in `results` and its error in `errors`; the other rows continue.
    """

    signature = Signature(
        "rows: list[any] -> results: list[any], errors: list[any]", name="Parallel"
    )

    def __init__(self, module: Module | None = None, *, concurrency: int = 16) -> None:
        """Take the module, and how many rows run at once; pairs need no module here."""
        if module is not None:
            check_module("Parallel", module)
        self.module = module
        self.concurrency = check_count("concurrency", concurrency)

    async def forward(self, rows: Sequence[ParallelRow]) -> Mapping[str, Any]:
        """Run all rows.

        Raises:
            InputError: a row is neither inputs nor a pair; the message has its number.
        """
        calls = [self._call(row, number) for number, row in enumerate(rows)]
        results: list[Prediction | None] = [None] * len(calls)
        errors: list[DspexError | None] = [None] * len(calls)
        queue = iter(enumerate(calls))

        async def worker() -> None:
            for index, (module, inputs) in queue:
                try:
                    with boundary(ExecutionError, f"row {index} of {type(module).__name__}"):
                        results[index] = await module.acall(**inputs)
                except DspexError as error:
                    errors[index] = error

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.concurrency, len(calls))):
                group.create_task(worker())
        return {"results": results, "errors": errors}

    def _call(self, row: ParallelRow, number: int) -> tuple[Module, Mapping[str, Any]]:
        module, inputs = row if isinstance(row, tuple) and len(row) == 2 else (self.module, row)
        if isinstance(module, Module) and isinstance(inputs, Mapping):
            return module, inputs
        expected = "a pair (module, inputs)" if self.module is None else "the inputs as an object"
        raise InputError(f"rows[{number}]: expected {expected}, got {shorten(row)}")

    def node(self, path: ModulePath) -> Node:
        """Return this module as data.

        Raises:
            DefinitionError: it has no module, because its rows are pairs.
        """
        if self.module is None:
            raise DefinitionError(
                f"Parallel at {str(path)!r} has no module, so it cannot be stored"
            )
        return Node(
            id=str(path),
            kind=KIND.name,
            config={"concurrency": self.concurrency},
            children={"module": self.module.node(path.child("module"))},
        )


def _create(signature: Signature, settings: Mapping[str, Any], name: str) -> Program:
    check_settings("parallel", settings, KIND.settings)
    options = {key: settings[key] for key in ("concurrency",) if key in settings}
    return Parallel(inner_module(signature, settings), **options).to_program(name)


KIND = ModuleKind(
    name="parallel",
    summary="runs a module on many rows at once",
    build=lambda node, builder: Parallel(builder.child(node, "module", Module), **node.config),
    create=_create,
    settings=("concurrency", *INNER_SETTINGS),
    backends=frozenset({"native", "dspy"}),
)
