"""Modules that wrap a module: `Parallel` runs it on many rows, `Retry` until it succeeds."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dspex.errors import DefinitionError, DspexError, ExecutionError, InputError, boundary
from dspex.execution.context import current
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind
from dspex.language.programs import ModulePath, Node
from dspex.language.records import Prediction
from dspex.language.records.prediction import Outputs
from dspex.language.signatures import Signature


class Parallel(Module):
    """Runs one module on every row, several at a time; `results` are in the order of the rows.

    A row that fails has None in `results` and its error in `errors`; the other rows continue.
    """

    signature = Signature(
        "rows: list[dict] -> results: list[any], errors: list[any]", name="Parallel"
    )

    def __init__(self, module: Module, *, concurrency: int = 16) -> None:
        """Take the module, and how many rows run at once."""
        if concurrency < 1:
            raise DefinitionError(f"concurrency must be at least 1, not {concurrency!r}")
        self.module = module
        self.concurrency = concurrency

    async def forward(self, **inputs: Any) -> Mapping[str, Any]:
        """Run the module on all rows."""
        rows: Sequence[Mapping[str, Any]] = self.signature.validate_inputs(inputs)["rows"]
        results: list[Prediction | None] = [None] * len(rows)
        errors: list[DspexError | None] = [None] * len(rows)
        queue = iter(enumerate(rows))

        async def worker() -> None:
            for index, row in queue:
                try:
                    with boundary(ExecutionError, f"row {index} of {type(self.module).__name__}"):
                        results[index] = await self.module.acall(**row)
                except DspexError as error:
                    errors[index] = error

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.concurrency, len(rows))):
                group.create_task(worker())
        return {"results": results, "errors": errors}

    def node(self, path: ModulePath) -> Node:
        """Return this module as data."""
        children = {"module": self.module.node(path.child("module"))}
        return Node(
            id=str(path),
            kind=PARALLEL.name,
            config={"concurrency": self.concurrency},
            children=children,
        )


class Retry(Module[Outputs]):
    """Runs a module again if it fails or its answer is not accepted.

    Each attempt sends new requests, even behind a cache or in a search: see `Rollout`.
    """

    def __init__(
        self,
        module: Module[Outputs],
        *,
        attempts: int = 3,
        accept: Callable[[Prediction[Outputs]], bool] | None = None,
    ) -> None:
        """Take the module, the most attempts, and the test of an answer."""
        if attempts < 1:
            raise DefinitionError(f"attempts must be at least 1, not {attempts!r}")
        self.module = module
        self.attempts = attempts
        self.accept = accept

    def contract(self) -> Signature:
        """Return the signature of the module."""
        return self.module.contract()

    async def forward(self, **inputs: Any) -> Prediction[Outputs]:
        """Run until an answer is accepted.

        Raises:
            ExecutionError: the last attempt failed, or no answer was accepted.
        """
        context = current()
        for attempt in range(self.attempts):
            attempt_context = replace(context, rollout=context.rollout * self.attempts + attempt)
            try:
                prediction = await self.module.acall(attempt_context, **inputs)
            except ExecutionError as error:
                if isinstance(error, InputError) or attempt == self.attempts - 1:
                    raise
                continue
            if self.accept is None or self.accept(prediction):
                return prediction
        raise ExecutionError(
            f"none of {self.attempts} answers of {type(self.module).__name__} was accepted"
        )

    def node(self, path: ModulePath) -> Node:
        """Return this module as data.

        Raises:
            DefinitionError: it has a function `accept`, which cannot be stored.
        """
        if self.accept is not None:
            raise DefinitionError(
                f"Retry at {str(path)!r} has a function `accept`; write a Module class around it "
                "to store it"
            )
        children = {"module": self.module.node(path.child("module"))}
        return Node(
            id=str(path), kind=RETRY.name, config={"attempts": self.attempts}, children=children
        )


PARALLEL = ModuleKind(
    name="parallel",
    summary="runs a module on many rows at once",
    build=lambda node, builder: Parallel(builder.child(node, "module", Module), **node.config),
)
RETRY = ModuleKind(
    name="retry",
    summary="runs a module again if it fails",
    build=lambda node, builder: Retry(builder.child(node, "module", Module), **node.config),
)
