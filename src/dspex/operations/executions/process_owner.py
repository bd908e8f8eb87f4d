"""Identifies the process that runs an execution and checks whether it is alive."""

import os
import socket
from collections.abc import Callable
from uuid import UUID

from dspex.execution.workers.orphans import is_running, start_time


def owner_of_this_process(new_id: Callable[[], UUID]) -> str:
    """Return "host:pid:start:id", unique to this process; `id` distinguishes its executors."""
    pid = os.getpid()
    return f"{host()}:{pid}:{start_time(pid) or 0}:{new_id().hex}"


def host() -> str:
    """Return the host name with the pid namespace, because containers may share a host name."""
    try:
        return f"{socket.gethostname()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def is_alive(owner: str) -> bool | None:
    """Return whether a process of this host still runs, or None for a process of another host."""
    owner_host, pid, start, _ = owner.rsplit(":", 3)
    return is_running(int(pid), int(start)) if owner_host == host() else None


def id_of(owner: str) -> UUID:
    """Return the id in an owner string."""
    return UUID(hex=owner.rsplit(":", 1)[1])
