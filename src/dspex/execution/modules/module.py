"""The runnable part that everything is composed of."""

import asyncio
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Self

from dspex.errors import DefinitionError
from dspex.execution.context import Run, RunContext, current, entered
from dspex.language.programs import Program
from dspex.language.records import Fallback, Prediction, Trace
from dspex.language.signatures import Signature
from dspex.language.variables import Assignment
from dspex.sync import run as run_sync


class Module:
    """Subclass it, make parts in `__init__`, and write `forward` (async or not) that calls them.

    A module is called with its inputs as keyword arguments: `module(question="...")`, or `await module.acall(...)`
    where a
    loop is running. Each call is one node of a trace. Modules are safe to call from many tasks and threads at once as
    long as `forward` leaves `self` alone.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:  # noqa: ANN401
        """Note the constructor's arguments, from which a stored program is rebuilt."""
        made = super().__new__(cls)
        made.__dict__["_init"] = (args, kwargs)
        return made

    async def forward(self, **inputs: Any) -> Any:  # noqa: ANN401
        """Do the work; return a `Prediction` or a mapping of outputs. To be written by subclasses."""
        raise DefinitionError(f"{type(self).__name__} has no forward method; write `async def forward(self, ...)`")

    def __call__(self, context: RunContext | None = None, /, **inputs: Any) -> Prediction:  # noqa: ANN401
        """Run to the end and return the prediction; the same as `await acall(...)`, for synchronous code."""
        return run_sync(self.acall(context, **inputs))

    async def acall(self, context: RunContext | None = None, /, **inputs: Any) -> Prediction:  # noqa: ANN401
        """Run in `context`, or in the one in force here.

        Raises:
            InvalidError: the inputs do not fit; every field is named.
            ConfigurationError: no model is set.
            ExecutionError: the work could not be done; the class says why.
        """
        given = context or current()
        run = given.run or Run(given.observer, given.clock, self._paths())
        first = len(run.spans)
        path = run.paths.get(id(self), type(self).__name__)
        span = run.begin("module", type(self).__name__, parent_id=given.parent_id, path=path)
        inner = replace(given, run=run, parent_id=span.id, path=path)
        try:
            with entered(inner):
                outputs, fallback = await self._run(inner, inputs)
        except BaseException as error:
            span.end(error=error)
            raise
        span.end(attributes={} if fallback is None else {"fallback": fallback.reason})
        spans = tuple(run.spans) if given.run is None else run.below(span.id, first=first)
        return Prediction.of_run(outputs, Trace(run.trace_id, spans), fallback=fallback)

    async def _run(
        self, context: RunContext, inputs: Mapping[str, Any]
    ) -> tuple[Mapping[str, object], Fallback | None]:
        """Run `forward` in `context`, which is in force already; a synchronous one runs in a thread."""
        del context
        if inspect.iscoroutinefunction(self.forward):
            result = await self.forward(**inputs)
        else:
            result = await asyncio.to_thread(self.forward, **inputs)
        if isinstance(result, Prediction):
            return result.to_dict(), result.fallback
        if isinstance(result, Mapping):
            return dict(result), None
        raise DefinitionError(
            f"forward of {type(self).__name__} returned {type(result).__name__}; return a Prediction or a dict of "
            "outputs"
        )

    def children(self) -> Iterator[tuple[str, "Module"]]:
        """Yield (relative path, module) for each module in an attribute, a list or a dict of this one."""
        for attribute, value in vars(self).items():
            if attribute.startswith("_"):
                continue
            if isinstance(value, Module):
                yield attribute, value
            elif isinstance(value, list | tuple):
                yield from ((f"{attribute}[{n}]", item) for n, item in enumerate(value) if isinstance(item, Module))
            elif isinstance(value, dict):
                yield from ((f"{attribute}[{k!r}]", item) for k, item in value.items() if isinstance(item, Module))

    def named_modules(self) -> Iterator[tuple[str, "Module"]]:
        """Yield (path, module) for this module ("self") and all below it; a module in two places has its first path."""
        seen: set[int] = set()

        def walk(path: str, module: Module) -> Iterator[tuple[str, Module]]:
            if id(module) in seen:
                return
            seen.add(id(module))
            yield path or "self", module
            for relative, child in module.children():
                yield from walk(f"{path}.{relative}" if path else relative, child)

        yield from walk("", self)

    def _paths(self) -> Mapping[int, str]:
        return {id(module): path for path, module in self.named_modules()}

    def contract(self) -> Signature:
        """Return the signature of the whole module: its own attribute `signature`, else the parameters of `forward`.

        Raises:
            DefinitionError: neither says what the outputs are.
        """
        declared = getattr(self, "signature", None)
        if declared is None:
            raise DefinitionError(
                f"{type(self).__name__} says nowhere what goes in and comes out; give the class `signature = "
                "'question -> answer'`"
            )
        return Signature.of(declared)

    def to_program(self, name: str = "") -> Program:
        """Return this module as data; `build` makes an equal module of it.

        Raises:
            DefinitionError: a constructor argument is not JSON; the message names it.
        """
        from dspex.execution.modules.building import program_of

        return program_of(self, name)

    def assign(self, values: Assignment) -> Self:
        """Return a new module with other values for some of its variables, such as `{"self.demos": [...]}`."""
        from dspex.execution.modules.building import reassigned

        return reassigned(self, values)
