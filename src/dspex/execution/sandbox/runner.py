"""Runs code inside a sandbox with full Python: in the process of "subprocess", and in Pyodide.

It is loaded there as a script and imports the standard library only.
"""

import ast
import contextlib
import io
import json
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Exchange = Callable[[str], str]
"""Sends a line to the host, and returns the line that it answers."""


class OutputLimitError(MemoryError):
    """More was printed than the limit allows."""


class LimitedText(io.StringIO):
    """Standard output, up to a limit in characters."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.left = limit

    def write(self, text: str) -> int:
        """Keep the text, up to the limit."""
        self.left -= len(text)
        if self.left < 0:
            raise OutputLimitError("more was printed than output_kib allows")
        return super().write(text)


class HostTool:
    """A tool of the host: a call sends a line and waits for the answer."""

    def __init__(self, name: str, exchange: Exchange) -> None:
        self._name, self._exchange = name, exchange

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the result of the tool."""
        call = {"call": self._name, "args": args, "kwargs": kwargs}
        reply = json.loads(self._exchange(dump(call)))
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply["result"]


class CodeRunner:
    """The names of one session."""

    def __init__(self, tools: Iterable[str], limit: int, exchange: Exchange) -> None:
        """Take the names of the tools, and the maximum number of characters of a run's output."""
        self._limit = limit
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._names |= {name: HostTool(name, exchange) for name in tools}

    def run(self, line: str) -> str:
        """Run the code of a request; return the answer."""
        request = json.loads(line)
        self._names |= request["inputs"]
        return dump(run(request["code"], self._names, self._limit))


def dump(message: Mapping[str, Any]) -> str:
    """Return a message as JSON; sets become lists, and dates ISO texts."""
    return json.dumps(message, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return list(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__} is not a JSON value")


def run(code: str, names: dict[str, Any], limit: int) -> dict[str, Any]:
    """Run code and return the answer."""
    output = LimitedText(limit)
    answer: dict[str, Any] = {}
    try:
        tree = ast.parse(code, "main.py")
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            exec(compile(tree, "main.py", "exec"), names)  # noqa: S102  # what it is for
            if isinstance(last, ast.Expr):
                expression = compile(ast.Expression(last.value), "main.py", "eval")
                answer["value"] = eval(expression, names)  # noqa: S307  # what it is for
        dump(answer)
    except BaseException as error:  # noqa: BLE001  # whatever the code raises is its result
        answer = {"fault": _fault(error)}
    answer["stdout"] = output.getvalue()
    return answer


def _fault(error: BaseException) -> dict[str, Any]:
    kind = "exception"
    if isinstance(error, SyntaxError):
        kind = "syntax"
    elif isinstance(error, OutputLimitError):
        kind = "output"
    elif isinstance(error, MemoryError):
        kind = "memory"
    frames = [
        step for step in traceback.extract_tb(error.__traceback__) if step.filename == "main.py"
    ]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
    return {"kind": kind, "type": type(error).__name__, "message": str(error), "line": line}
