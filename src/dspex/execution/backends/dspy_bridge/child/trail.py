"""Tracks the modules of a program as they run: spans for the parent's trace, and stream events."""

import itertools
import time
from contextvars import ContextVar
from typing import Any

from . import compat
from .compat import dspy
from .values import plain, to_parent

_MARK = "_dspex_path"
LIMIT = 256  # spans in one reply; a program that loops must not fill it
_now = time.monotonic_ns  # the same clock in all processes of a machine
_current_frame: "ContextVar[_Frame | None]" = ContextVar("dspex_here", default=None)


def paths_of(program: Any) -> "dict[int, str]":
    """Return the paths of a program's modules by their ids, and mark them for their copies."""
    paths = {id(module): path.removeprefix("self.") for path, module in program.named_sub_modules()}
    # `d['k']`, not `d[k]`
    paths |= {id(predictor): path for path, predictor in program.named_predictors()}
    for module in [*(part for _, part in program.named_sub_modules()), program]:
        if id(module) in paths:
            vars(module)[_MARK] = paths[id(module)]
    return paths


class Trail:
    """The modules that run in one call. Threads that dspy starts for the call share it."""

    def __init__(
        self,
        call: Any,
        paths: "dict[int, str]",
        *,
        streams: bool,
        records_calls: bool,
    ) -> None:
        self._call = call
        self._records_calls = records_calls
        self._predictor_calls: list[tuple[str, Any, Any]] = []
        self._paths = paths
        self._streams = streams
        self._count = itertools.count(1)
        self._spans: list[tuple[Any, ...]] = []
        self._last: dict[int, _Frame] = {}
        self.failure: BaseException | None = None

    def enter(self, module: Any, inputs: "dict[str, Any]") -> "_Frame | None":
        """Record the start of a module; None outside of the program or above the limit."""
        is_copy = id(module) not in self._paths  # an attempt of BestOfN, Refine or a vote
        path = vars(module).get(_MARK) if is_copy else self._paths[id(module)]
        if path is None or (number := next(self._count)) > LIMIT:
            return None
        outer = _current_frame.get() or self._calling_frame()
        frame = _Frame(number, module, path=path, outer=outer.number if outer is not None else None)
        if self._records_calls and isinstance(module, dspy.Predict):
            fields = module.signature.input_fields
            frame.inputs = plain({name: value for name, value in inputs.items() if name in fields})
        frame.streams = self._streams and not is_copy and isinstance(module, dspy.Predict)
        frame.token = _current_frame.set(frame)
        self._last[id(module)] = frame
        if frame.streams:
            self._call.emit("stream", {"path": path, "name": frame.name, "state": "begun"})
        return frame

    def leave(self, frame: "_Frame", outputs: Any, error: "BaseException | None") -> None:
        """Record the end of a module."""
        end_ns = _now()
        _current_frame.reset(frame.token)
        message = None if error is None else f"{type(error).__name__}: {error}"[:2000]
        self._spans.append(
            (
                frame.number,
                frame.outer,
                "module",
                frame.name,
                frame.path,
                frame.started_ns,
                end_ns,
                message,
            )
        )
        if error is not None:
            self.failure = error
        if not isinstance(frame.module, dspy.Predict) or not (frame.streams or self._records_calls):
            return
        answer = to_parent(dict(outputs.items())) if error is None and outputs is not None else None
        if self._records_calls and answer is not None:
            self._predictor_calls.append((frame.path, frame.inputs, answer))
        if frame.streams:
            self._call.emit(
                "stream",
                {"path": frame.path, "name": frame.name, "state": "done", "outputs": answer},
            )

    def _calling_frame(self) -> "_Frame | None":
        """Return the module that started this thread, which dspy passes on to its threads."""
        callers = compat.setting("caller_modules")
        return self._last.get(id(callers[-1])) if callers else None

    def current_place(self) -> "dict[str, Any]":
        """Return the running module for a callback, with its output fields if the call streams."""
        frame = _current_frame.get()
        if frame is None:
            return {}
        place: dict[str, Any] = {"span": frame.number, "path": frame.path}
        if frame.streams:
            place["fields"] = {name: name for name in frame.module.signature.output_fields}
        return place

    def end(self) -> None:
        """Attach the spans and calls to the reply."""
        if self._spans:
            self._call.attach("spans", self._spans)
        if self._predictor_calls:
            self._call.attach("calls", self._predictor_calls)


class _Frame:
    __slots__ = (
        "inputs",
        "module",
        "name",
        "number",
        "outer",
        "path",
        "started_ns",
        "streams",
        "token",
    )

    def __init__(self, number: int, module: Any, *, path: str, outer: "int | None") -> None:
        self.number = number
        self.module = module
        self.path = path
        self.outer = outer
        self.name = type(module).__name__
        self.started_ns = _now()
        self.streams = False
        self.token: Any = None
        self.inputs: dict[str, Any] = {}
