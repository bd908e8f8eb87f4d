"""`dspex.configure(store=...)`: record whatever this process runs, without a block."""

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal, TypeVar

from dspex.bootstrap.open_store import OpenStore
from dspex.errors import ConfigurationError
from dspex.execution.context import process_default, update_default

T = TypeVar("T")


def record_process(folder: str | Path | Literal[False]) -> None:
    """Record what this process runs in `folder`, instead of the last one; stop if it is False.

    Raises:
        ConfigurationError: `dspex.open` is active for the process, or a package is missing.
        StorageError: the database cannot be used.
    """
    active = process_default().record
    if isinstance(active, OpenStore) and not isinstance(active, ProcessStore):
        raise ConfigurationError("`dspex.open` records this process; leave its block first")
    if isinstance(active, ProcessStore):
        active.stop()
    if folder is not False:
        ProcessStore(Path(folder)).start()


class ProcessStore(OpenStore):
    """A store for the whole process. Its own loop, on a daemon thread, owns the database.

    Programs run on the loops of their callers.
    """

    def start(self) -> None:
        """Open the store and make it that of the process, until `stop` or the end of it."""
        self._pid = os.getpid()
        self._own = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._own.run_forever, name="dspex-store", daemon=True
        )
        self._thread.start()
        try:
            self._wait(self._open())
        except BaseException:
            self._end()
            raise
        self._is_active = True
        update_default(self._activate)
        atexit.register(self.stop)

    def stop(self) -> None:
        """Close the store; nothing is recorded from now on."""
        if not self._is_active:
            return
        self._is_active = False
        update_default(self._deactivate)
        atexit.unregister(self.stop)
        if os.getpid() == self._pid:
            self._wait(self._close())
            self._end()

    async def _on_own_loop(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if os.getpid() != self._pid:
            raise ConfigurationError(
                "nothing can be recorded here: this process was forked after "
                "`dspex.configure(store=...)`; call it in each process"
            )
        return await super()._on_own_loop(work)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._own).result()

    def _end(self) -> None:
        self._own.call_soon_threadsafe(self._own.stop)
        self._thread.join()
        self._own.close()
