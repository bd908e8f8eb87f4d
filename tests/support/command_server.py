"""Commands of dspex in processes forked from one that has imported dspex already.

Starting Python and importing dspex takes longer than most commands do. Tests of a start itself, of
servers and of signals start the real thing.
"""

import atexit
import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path

# takes the place of `dspex` in shells; without `site`, its own start takes little
CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    order = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(order).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(order)
    code = b""
    while part := server.recv(16):
        code += part
sys.exit(int(code or 255))
"""


def run_dspex(
    folder: Path, *arguments: str, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command of dspex in `folder`; `variables` are added to the environment."""
    return subprocess.run(
        [str(dspex_program()), *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@cache
def dspex_program() -> Path:
    """Return a program `dspex`; its server starts at the first call, and ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="dspex-commands-"))
    address = str(folder / "socket")
    server = subprocess.Popen(
        [sys.executable, __file__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )

    def stop() -> None:
        server.communicate()  # closes its standard input
        shutil.rmtree(folder)

    atexit.register(stop)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    program = folder / "dspex"
    program.write_text(CLIENT.format(python=sys.executable, address=address))
    program.chmod(0o755)
    return program


def serve(address: str) -> None:
    """Fork for every order until the standard input ends."""
    for room in ("bootstrap", "operations.storage", "surfaces.cli.main"):
        import_module(f"dspex.{room}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while 0 not in select.select([listener.fileno(), 0], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                obey(connection)
                return
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def obey(connection: socket.socket) -> None:
    """Run the command of an order; its client waits for the end of this process."""
    from dspex.surfaces.cli import main

    size, streams, _, _ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as reader:
        arguments, folder, environment = json.loads(reader.read(int.from_bytes(size, "big")))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder
    try:
        main(arguments)
    except SystemExit as end:
        connection.send(str(end.code or 0).encode())


if __name__ == "__main__":
    serve(sys.argv[1])
