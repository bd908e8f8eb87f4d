"""A Redis or Valkey server for tests and benchmarks, from the system's package."""

import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from dspex.errors import ConfigurationError

_DEADLINE = 30.0


def find_redis() -> str | None:
    """Return the path of `redis-server` or `valkey-server`, None if neither is installed."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """A private server on a socket in a folder under /tmp; it stores nothing on disk.

    It can be killed, which loses what it holds, and suspended, so that nothing answers.
    """

    def __init__(self, *, password: str = "") -> None:
        """Take the password that clients need, if any; nothing is started yet."""
        self._password = password
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of this server, with the password."""
        secret = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"unix://{secret}{self._socket}"

    @property
    def _socket(self) -> Path:
        return self._folder / "redis.sock"

    def __enter__(self) -> Self:
        # a socket's path is short
        self._folder = Path(tempfile.mkdtemp(prefix="dspex-redis-", dir="/tmp"))
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            ConfigurationError: no server is installed, or it does not start.
        """
        program = find_redis()
        if program is None:
            raise ConfigurationError(
                "there is neither redis-server nor valkey-server: apt-get install redis-server"
            )
        arguments = ["--port", "0", "--unixsocket", str(self._socket), "--save", ""]
        if self._password:
            arguments += ["--requirepass", self._password]
        self._process = subprocess.Popen(  # noqa: S603  # the system's server
            [program, *arguments], cwd=self._folder, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _DEADLINE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ConfigurationError(f"{program} does not start")

    def kill(self) -> None:
        """Kill it, if it runs: what it held is gone."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._socket.unlink(missing_ok=True)
        self._process = None

    def suspend(self) -> None:
        """Stop it: connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue it."""
        self._signal(signal.SIGCONT)

    def command(self, *words: str | bytes) -> Any:
        """Run one command, and return its reply."""
        import redis

        with redis.Redis.from_url(self.url) as client:
            return client.execute_command(*words)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _answers(self) -> bool:
        import redis

        try:
            return bool(self.command("PING"))
        except redis.exceptions.ConnectionError:
            return False
