"""pgbouncer before the PostgreSQL of the tests."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
needs_pgbouncer = pytest.mark.skipif(
    PROGRAM is None, reason="pgbouncer is not here: apt install pgbouncer"
)
_DEADLINE = 30.0


@contextmanager
def pooled(url: str, *, mode: str) -> Iterator[str]:
    """Run a pgbouncer in this mode before the server of `url` (on a socket).

    Give the URL of the database there.
    """
    assert PROGRAM is not None
    parts = urlsplit(url)
    server = parts.query.partition("host=")[2]
    folder = Path(tempfile.mkdtemp(prefix="dspex-pool-", dir="/tmp"))  # a socket's path is short
    user = "nobody" if os.geteuid() == 0 else None  # pgbouncer refuses to be root
    if user is not None:
        shutil.chown(folder, user)
    lines = [
        *("[databases]", f"* = host={server} user=postgres", "[pgbouncer]", "listen_addr ="),
        *(
            f"unix_socket_dir = {folder}",
            "auth_type = any",
            f"pool_mode = {mode}",
            f"pidfile = {folder}/pid",
        ),
    ]
    (folder / "pgbouncer.ini").write_text("\n".join(lines))
    command = [PROGRAM, str(folder / "pgbouncer.ini")]
    process = subprocess.Popen(
        command, user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + _DEADLINE
        while not (folder / ".s.PGSQL.6432").exists():
            assert process.poll() is None
            assert time.monotonic() < end
        yield f"postgresql://postgres@/{parts.path.lstrip('/')}?host={folder}&port=6432"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
