"""DBOS, which distributes jobs: each to one worker, and to a worker as many as it may run.

A ticket is a DBOS workflow for one turn of one job; its id names both, so that creating it twice
has no effect. Nothing else is kept in DBOS: the job is its row, and its results are in its journal.
The rows also show where tickets may wait, so DBOS does not poll: it looks where it is asked to.

DBOS allows one instance per process, with its own threads and loop. So a process that runs jobs
does nothing else, and jobs run on the worker's loop, not on a thread of DBOS. Importing DBOS takes
2 s, so `start` does it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dspex.errors import ConfigurationError, StorageError, boundary
from dspex.operations.jobs.policy import JobPolicy
from dspex.operations.jobs.ticket_dispatcher import TicketDispatcher

if TYPE_CHECKING:
    import sqlalchemy as sa
    from dbos import DBOSClient

APPLICATION = "dspex"
VERSION = "jobs-1"  # by hand: DBOS's own hash of the source strands what is pending at every edit
WORKFLOW = "dspex_job"
_SPENT = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
_BARE: Any = {"load_input": False, "load_output": False}
_PORTION = 200
Run = Callable[[str, UUID, int], Awaitable[str]]
_log = logging.getLogger("dspex.jobs")


class Tickets:
    """One life of DBOS in this process. `start`, `stop` and the rest block; call them in a thread.

    Errors of DBOS and its driver become `StorageError`s: their database is ours.
    """

    def __init__(
        self,
        url: str,
        *,
        executor: str,
        run: Run,
        loop: asyncio.AbstractEventLoop,
        policy: JobPolicy,
    ) -> None:
        """Take the database, the id of this worker, and the function that runs a job on `loop`."""
        self._url = url
        self._executor = executor
        self._run = run
        self._loop = loop
        self._policy = policy
        self._channels: frozenset[str] = frozenset()
        self._engine: sa.Engine | None = None
        self._client: DBOSClient | None = None
        self._dispatchers: dict[str, TicketDispatcher] = {}

    def start(self, channels: Sequence[tuple[str, str]]) -> None:
        """Launch DBOS; from now on `look` distributes the tickets that wait in `channels`.

        `channels` are pairs of a channel and the queue that it belongs to.

        Raises:
            ConfigurationError: DBOS is not installed, or cannot use the database.
            StorageError: the database is away.
        """
        import sqlalchemy as sa

        try:
            from dbos import DBOS
        except ImportError as error:
            raise ConfigurationError(
                f"jobs need more packages: pip install 'dspex[server]' ({error})"
            ) from error
        self._channels = frozenset(channel for channel, _ in channels)
        self._engine = make_engine(self._url, locks_early=bool(self._policy.limits))
        try:
            DBOS.migrate(_plain_url(self._url))
            self._launch(channels)
        except Exception as error:
            self.stop()
            if isinstance(error, sa.exc.OperationalError):
                raise StorageError(f"DBOS does not start on this database: {error}") from error
            raise ConfigurationError(f"DBOS does not start on this database: {error}") from error

    def _launch(self, channels: Sequence[tuple[str, str]]) -> None:
        from dbos import DBOS, DBOSClient
        from dbos import DBOSPortableJSONSerializer as Plain

        instance = DBOS(
            config={
                "name": APPLICATION,
                "system_database_url": _plain_url(self._url),
                "system_database_engine": self._engine,
                "application_version": VERSION,
                "executor_id": self._executor,
                "serializer": Plain(),  # the default one is pickle
                "use_listen_notify": False,
                "run_migrations": False,  # done above, on separate connections
                "log_level": "ERROR",
            }
        )
        DBOS.workflow(name=WORKFLOW)(_workflow_of(self._run, self._loop))
        DBOS.listen_queues([])  # a thread for each would poll it four times a second
        DBOS.launch()
        for channel, queue in channels:
            registered = DBOS.register_queue(
                channel,
                worker_concurrency=self._policy.per_worker(queue),
                global_concurrency=self._policy.limits.get(queue),
                polling_interval_sec=self._policy.poll,
                on_conflict="always_update",
            )
            self._dispatchers[channel] = TicketDispatcher(instance, registered)
        self._client = DBOSClient(
            system_database_engine=self._engine, serializer=Plain(), application_name=APPLICATION
        )

    def add(self, channel: str, job_id: UUID, turn: int) -> None:
        """Make sure that there is a ticket for this turn."""
        queue = channel.partition("@")[0]
        options: Any = {
            "workflow_name": WORKFLOW,
            "queue_name": channel,
            "workflow_id": ticket_of(job_id, turn),
            "app_version": VERSION,
        }
        if turn == 0:
            options["priority"] = 1  # after jobs that have started already
        with self._client_in_use() as client:
            client.enqueue(options, queue, str(job_id), turn)

    def look(self, channel: str) -> None:
        """Distribute the waiting tickets of this channel, within the limits of this worker.

        It does not block. Tickets above a limit wait for the next look.
        """
        if channel in self._dispatchers:
            self._dispatchers[channel].look()

    def find_spent(self, tickets: Sequence[str]) -> set[str]:
        """Return the tickets that can no longer lead to a run."""
        if not tickets:  # DBOS takes an empty list for "all"
            return set()
        with self._client_in_use() as client:
            rows = client.list_workflows(workflow_ids=list(tickets), **_BARE)
        return set(tickets) - {row.workflow_id for row in rows if row.status not in _SPENT}

    def find_holders(self) -> set[str]:
        """Return the workers to which tickets were handed out that have led to no end."""
        with self._client_in_use() as client:
            rows = client.list_workflows(name=WORKFLOW, status="PENDING", **_BARE)
        return {row.executor_id for row in rows if row.executor_id is not None}

    def discard(self, executors: Sequence[str]) -> None:
        """Cancel the tickets of dead workers.

        Their jobs have new tickets, and the old ones would count as running.
        """
        if not executors:
            return
        with self._client_in_use() as client:
            for row in client.list_workflows(
                status="PENDING", executor_id=list(executors), **_BARE
            ):
                client.cancel_workflow(row.workflow_id)

    def forget(self, before: datetime) -> int:
        """Delete old tickets that have led to a run, or never will; return how many.

        They were added before `before`. A ticket that waits or runs stays, however old it is,
        unless it waits in a channel that this worker does not read: a worker that does adds a
        ticket again for a job that is still queued.
        """
        total, offset = 0, 0
        while True:
            with self._client_in_use() as client:
                page = client.list_workflows(
                    name=WORKFLOW,
                    status=[*_SPENT, "ENQUEUED"],
                    end_time=before.isoformat(),
                    limit=_PORTION,
                    offset=offset,
                    **_BARE,
                )
                old = [
                    row.workflow_id
                    for row in page
                    if row.status in _SPENT or row.queue_name not in self._channels
                ]
                if old:
                    client.delete_workflows(old)
            total, offset = total + len(old), offset + len(page) - len(old)
            if len(page) < _PORTION:
                return total

    def stop(self) -> None:
        """End DBOS in this process; the runs that it started must have ended."""
        from dbos import DBOS

        for dispatcher in self._dispatchers.values():
            dispatcher.stop()
        self._dispatchers = {}
        try:
            if self._client is not None:
                self._client.destroy()
            DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=2)
        except Exception as error:  # noqa: BLE001  # a lost database must not prevent the end
            _log.warning(
                "the queue of jobs was left as it was: %s: %s", type(error).__name__, error
            )
        self._client = None
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    @contextmanager
    def _client_in_use(self) -> "Iterator[DBOSClient]":
        """Yield the client; raise errors inside the block as `StorageError`."""
        if self._client is None:
            raise StorageError("the queue of this worker is closed")
        with boundary(StorageError, "the queue of jobs cannot be used"):
            yield self._client


def _workflow_of(run: Run, loop: asyncio.AbstractEventLoop) -> Callable[[str, str, int], str]:
    async def work(queue: str, job_id: str, turn: int) -> str:
        return await run(queue, UUID(job_id), turn)

    def dspex_job(queue: str, job_id: str, turn: int) -> str:
        """Runs on a thread of DBOS, which waits; the work itself is done on our loop."""
        return asyncio.run_coroutine_threadsafe(work(queue, job_id, turn), loop).result()

    return dspex_job


def ticket_of(job_id: UUID, turn: int) -> str:
    """Return the id of the ticket for one turn of a job."""
    return f"{job_id}:{turn}"


def make_engine(url: str, *, locks_early: bool = True) -> "sa.Engine":
    """Return an engine for DBOS on our own database.

    With SQLite it has our settings: DBOS would leave WAL off, and count what runs before its
    transaction has begun, so that two workers could pass a limit together (`locks_early` prevents
    that, and makes readers wait for one another). PostgreSQL ends a transaction that a stopped
    worker has left open, as others may wait for it.
    """
    import sqlalchemy as sa

    plain = _plain_url(url)
    if not plain.startswith("sqlite"):
        engine = sa.create_engine(plain, pool_size=5, max_overflow=5, pool_pre_ping=True)
        sa.event.listen(engine, "connect", _limit_idle_transactions)
        return engine
    engine = sa.create_engine(plain, pool_size=5, max_overflow=5)

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None if locks_early else "IMMEDIATE"
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "busy_timeout=10000",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    if locks_early:
        sa.event.listen(
            engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE")
        )
    return engine


def _limit_idle_transactions(connection: Any, _record: object) -> None:
    # not as an option of the connection, which a pooler before the database would refuse
    with connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = 3000")
    connection.commit()


def _plain_url(url: str) -> str:
    """Return the URL as DBOS takes it: without an asynchronous driver."""
    import sqlalchemy as sa

    parsed = sa.make_url(url)
    driver = "sqlite" if parsed.get_backend_name() == "sqlite" else "postgresql+psycopg"
    return parsed.set(drivername=driver).render_as_string(hide_password=False)
