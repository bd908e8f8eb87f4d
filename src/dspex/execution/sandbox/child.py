"""The process of the sandbox "subprocess": it reads code, runs it, and answers.

It is started as a script by `subprocess.py` and imports the standard library only. It reads
requests and results of tools, and writes answers and calls, as lines of JSON on two pipes.
Before it runs anything it gives up what it can: the privileges of root, the network and the sight
of other processes where the kernel lets it, descriptors, and memory and processes above the limits.
"""

import ast
import contextlib
import ctypes
import io
import json
import os
import resource
import sys
import traceback
from typing import Any

_UNPRIVILEGED = 65534
_PROCESSES = 200
_NEW_NETWORK, _NEW_PIDS, _NEW_IPC, _NEW_USER = 0x40000000, 0x20000000, 0x08000000, 0x10000000
# imported while the interpreter's files can be read; an unprivileged user may not reach them
_MODULES = (
    "base64", "bisect", "calendar", "collections", "copy", "csv", "dataclasses", "datetime",
    "decimal", "enum", "fractions", "functools", "hashlib", "heapq", "io", "itertools", "json",
    "math", "operator", "random", "re", "statistics", "string", "textwrap", "time", "typing",
    "unicodedata", "uuid", "zoneinfo",
)  # fmt: skip


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

    def __init__(self, name: str, requests: Any, answers: Any) -> None:
        self._name, self._requests, self._answers = name, requests, answers

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the result of the tool."""
        _send(self._answers, {"call": self._name, "args": args, "kwargs": kwargs})
        reply = json.loads(self._requests.readline())
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply["result"]


def _send(stream: Any, message: dict[str, Any]) -> None:
    stream.write(json.dumps(message, default=_refuse).encode() + b"\n")
    stream.flush()


def _refuse(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return list(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__} is not a JSON value")


def give_up_privileges(memory: int, seconds: float, size: int) -> None:
    """Lower what this process may do; what is given up cannot be taken back."""
    library = ctypes.CDLL(None, use_errno=True)
    is_root = os.geteuid() == 0
    spaces = _NEW_NETWORK | _NEW_PIDS | _NEW_IPC | (0 if is_root else _NEW_USER)
    if library.unshare(spaces) == 0 and os.fork():  # the child is the first of the new space
        _, status = os.wait()
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, int(seconds) + 2),
        (resource.RLIMIT_FSIZE, size),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, _PROCESSES),
    ):
        resource.setrlimit(limit, (value, value))
    if is_root:
        os.setgroups([])
        os.setresgid(_UNPRIVILEGED, _UNPRIVILEGED, _UNPRIVILEGED)
        os.setresuid(_UNPRIVILEGED, _UNPRIVILEGED, _UNPRIVILEGED)
    library.prctl(38, 1, 0, 0, 0)  # no new privileges, by any program
    library.prctl(1, 9, 0, 0, 0)  # die with the parent


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
        json.dumps(answer, default=_refuse)
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


def main() -> None:
    """Serve one session."""
    options = json.loads(sys.argv[1])
    requests, answers = os.fdopen(options["requests"], "rb"), os.fdopen(options["answers"], "wb")
    for stream in (requests, answers):
        os.set_inheritable(stream.fileno(), False)  # noqa: FBT003  # the parameter has no name
    for name in _MODULES:
        __import__(name)
    give_up_privileges(options["memory"], options["seconds"], options["size"])
    names: dict[str, Any] = {"__name__": "__main__"}
    names |= {name: HostTool(name, requests, answers) for name in options["tools"]}
    for line in requests:
        request = json.loads(line)
        names |= request["inputs"]
        _send(answers, run(request["code"], names, options["output"]))


if __name__ == "__main__":
    main()
