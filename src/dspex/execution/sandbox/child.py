"""The process of the sandbox "subprocess": it reads code, runs it, and answers.

It is started as a script by `subprocess.py` and loads the standard library and `runner.py` only. It
reads requests and results of tools, and writes answers and calls, as lines of JSON on two pipes.
Before it runs anything it gives up what it can: the privileges of root, the network and the sight
of other processes where the kernel lets it, descriptors, and memory and processes above the limits.
"""

import ctypes
import json
import os
import resource
import runpy
import sys

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


def main() -> None:
    """Serve one session."""
    options = json.loads(sys.argv[1])
    requests, answers = os.fdopen(options["requests"], "rb"), os.fdopen(options["answers"], "wb")
    for stream in (requests, answers):
        os.set_inheritable(stream.fileno(), False)  # noqa: FBT003  # the parameter has no name
    code = runpy.run_path(os.path.join(os.path.dirname(__file__), "runner.py"))
    for name in _MODULES:
        __import__(name)
    give_up_privileges(options["memory"], options["seconds"], options["size"])

    def send(line: str) -> None:
        answers.write(line.encode() + b"\n")
        answers.flush()

    def exchange(line: str) -> str:
        send(line)
        return requests.readline().decode()

    runner = code["CodeRunner"](options["tools"], options["output"], exchange)
    for line in requests:
        send(runner.run(line.decode()))


if __name__ == "__main__":
    main()
