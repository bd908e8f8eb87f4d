"""Which module of a program runs when: spans for the parent's trace, and events as predictors begin and answer."""

import itertools
import time
from contextvars import ContextVar
from typing import Any

from . import compat
from .compat import dspy
from .values import plain, told

LIMIT = 256  # spans of one call; a program that loops must not fill the reply
_now = time.monotonic_ns  # one clock for all processes of a machine
_here: "ContextVar[_Entered | None]" = ContextVar("dspex_here", default=None)


def paths_of(program: Any) -> "dict[int, str]":  # noqa: ANN401
    """Return the paths of a program's modules by their ids; copies of the program are no part of it."""
    paths = {id(module): path.removeprefix("self.") for path, module in program.named_sub_modules()}
    paths |= {id(predictor): path for path, predictor in program.named_predictors()}  # `d['k']`, not `d[k]`
    return paths


class Trail:
    """The modules that one call enters and leaves. Threads that dspy starts for the call share it."""

    def __init__(self, call: Any, paths: "dict[int, str]", *, tells: bool, notes: bool) -> None:  # noqa: ANN401
        self._call = call
        self._notes = notes
        self._noted: list[tuple[str, Any, Any]] = []
        self._paths = paths
        self._tells = tells
        self._count = itertools.count(1)
        self._spans: list[tuple[Any, ...]] = []
        self._last: dict[int, _Entered] = {}

    def enter(self, module: Any, inputs: "dict[str, Any]") -> "_Entered | None":  # noqa: ANN401
        """Note that a module begins; None for one that is no part of the program, or one too many."""
        path = self._paths.get(id(module))
        if path is None or (number := next(self._count)) > LIMIT:
            return None
        outer = _here.get() or self._outer()
        entered = _Entered(number, module, path=path, outer=outer.number if outer is not None else None)
        if self._notes and isinstance(module, dspy.Predict):
            known = module.signature.input_fields
            entered.inputs = plain({name: value for name, value in inputs.items() if name in known})
        entered.token = _here.set(entered)
        self._last[id(module)] = entered
        if self._tells and isinstance(module, dspy.Predict):
            self._call.emit("stream", {"path": path, "name": entered.name, "state": "begun"})
        return entered

    def leave(self, entered: "_Entered", outputs: Any, error: "BaseException | None") -> None:  # noqa: ANN401
        """Note that it has ended."""
        ended = _now()
        _here.reset(entered.token)
        shown = None if error is None else f"{type(error).__name__}: {error}"[:2000]
        self._spans.append(
            (entered.number, entered.outer, "module", entered.name, entered.path, entered.began, ended, shown)
        )
        if not isinstance(entered.module, dspy.Predict) or not (self._tells or self._notes):
            return
        answer = told(dict(outputs.items())) if error is None and outputs is not None else None
        if self._notes and answer is not None:
            self._noted.append((entered.path, entered.inputs, answer))
        if self._tells:
            self._call.emit("stream", {"path": entered.path, "name": entered.name, "state": "done", "outputs": answer})

    def _outer(self) -> "_Entered | None":
        """Return who started the thread that this is: dspy's threads know their callers, but not our variables."""
        callers = compat.setting("caller_modules")
        return self._last.get(id(callers[-1])) if callers else None

    def here(self) -> "dict[str, Any]":
        """Return the module that runs now, as a callback names it; with its output fields where somebody listens."""
        entered = _here.get()
        if entered is None:
            return {}
        place: dict[str, Any] = {"span": entered.number, "path": entered.path}
        if self._tells and isinstance(entered.module, dspy.Predict):
            place["fields"] = {name: name for name in entered.module.signature.output_fields}
        return place

    def end(self) -> None:
        """Let the spans go with the reply."""
        if self._spans:
            self._call.attach("spans", self._spans)
        if self._noted:
            self._call.attach("calls", self._noted)


class _Entered:
    __slots__ = ("began", "inputs", "module", "name", "number", "outer", "path", "token")

    def __init__(self, number: int, module: Any, *, path: str, outer: "int | None") -> None:  # noqa: ANN401
        self.number = number
        self.module = module
        self.path = path
        self.outer = outer
        self.name = type(module).__name__
        self.began = _now()
        self.token: Any = None
        self.inputs: dict[str, Any] = {}
