"""A started server keeps answering, within little memory, while others flood it without a key."""

import re
import resource
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.command_server import run_dspex
from tests.support.waiting import Child

pytestmark = pytest.mark.full
MOST = 48 * 1024 * 1024
START = b"POST /graphql HTTP/1.1\r\nhost: 127.0.0.1\r\n"
TRAILERS = START + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, int, Child]]:
    limit = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)); from "
        "dspex.surfaces.cli "
    )
    code = (
        limit + "import main; sys.exit(main(['serve', '--port', '0', '--no-worker', '--auth', "
        "'--host', '127.0.0.1']))"
    )
    assert "key: " in run_dspex(tmp_path, "key", "create", "k", "read").stdout
    with Child([sys.executable, "-c", code], cwd=tmp_path) as child:
        line = child.wait_for_line("serving http")
        match = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert match is not None
        yield match[0], int(match[1]), child


def resident(process: int) -> int:
    """Return the bytes of memory that a process holds."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()


def flood(port: int, first: bytes, more: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        try:
            connection.sendall(first)
            for _ in range(MOST // len(more)):
                connection.sendall(more)
        except OSError:
            return


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_floods_and_crowds_without_a_key_cost_little_and_lock_out_nobody(
    server: tuple[str, int, Child],
) -> None:
    url, port, child = server
    before = resident(child.process.pid)
    floods = [
        (START, b"x-a: b\r\n" * 8192),
        (TRAILERS, b"x-a: b\r\n" * 8192),
        (START + b"x: ", b"y" * 65536),
    ]
    threads = [threading.Thread(target=flood, args=(port, *parts)) for parts in floods * 3]
    with ExitStack() as crowd:
        for _ in range(400):
            connection = crowd.enter_context(
                socket.create_connection(("127.0.0.1", port), timeout=30)
            )
            connection.sendall(START)
        for thread in threads:
            thread.start()
        for _ in range(10):
            with urllib.request.urlopen(f"{url}/healthz", timeout=30) as answer:
                assert answer.status == 200
        for thread in threads:
            thread.join(60)
    assert resident(child.process.pid) - before < 64 * 1024 * 1024
    assert not [line for line in child.seen if "Traceback" in line or "Too many open files" in line]
