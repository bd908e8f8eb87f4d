"""The schema goes forward and back, on both databases, with data in it."""

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dspex.errors import ConfigurationError, SchemaError, StorageError
from dspex.operations.domain import DOMAIN
from dspex.operations.storage import HEAD, Database, metadata_of, migrate, require_head, revision
from dspex.operations.storage.migration import REVISIONS
from dspex.testing.postgres import PostgresServer
from tests.support.postgres import DATABASES
from tests.support.sqlite import SchemaCopy
from tests.support.waiting import finish

pytestmark = pytest.mark.usefixtures("real_migrations")
NOW = "2026-05-04 03:02:01.987654+00:00"
OLD_ROWS = (
    "INSERT INTO signatures VALUES (:s, 'default', :now, :now, 0, 'qa', 1, 'active', '{}', '{}', "
    "'', 'h', 'x', '{}')",
    "INSERT INTO programs VALUES (:p, 'default', :now, :now, 0, 'qa', 'ready', :s, :v, 'predict', "
    "'native', '{}', 7,"
    " NULL, NULL)",
    "INSERT INTO program_versions VALUES (:v, 'default', :now, :now, 0, :p, 1, 'h', '{}', '{}', "
    "NULL, 'user')",
    "INSERT INTO executions VALUES (:e, 'default', :now, :now, 0, :p, :v, 'completed', 'native', "
    '\'{"q": "ä?"}\','
    ' \'{"b": 1, "a": 2}\', NULL, NULL, NULL, 0.5, 1.25, NULL, NULL)',
)
IDS = {letter: f"019a{n:028x}" for n, letter in enumerate("spve")}


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("empty_postgres_url"))
    return f"sqlite+aiosqlite:///{tmp_path / 'db'}"


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        await database.aclose()


async def with_old_rows(database: Database) -> None:
    await migrate(database, to="0001")
    now = f"TIMESTAMPTZ '{NOW}'" if not database.is_sqlite else f"'{NOW[:26]}'"
    async with database.writing() as connection:
        for statement in OLD_ROWS:
            text = statement.replace(":now", now)
            for letter, value in IDS.items():
                text = text.replace(f":{letter}", f"'{value}'")
            await connection.exec_driver_sql(text)


async def rows_of(database: Database, statement: str) -> list[Any]:
    async with database.reading() as connection:
        return [tuple(row) for row in await connection.execute(sa.text(statement))]


async def test_rows_survive_the_way_forward_and_back(url: str) -> None:
    async with opened(url) as database:
        await with_old_rows(database)
        await migrate(database)
        query = "SELECT status, inputs, outputs, cost_usd, duration_ms FROM executions"
        before = await rows_of(database, query)
        assert len(before) == 1
        assert await rows_of(database, "SELECT actor, idempotency_key FROM executions") == [
            ("local", None)
        ]
        await migrate(database, to="0001")
        assert await rows_of(database, query) == before
        assert await rows_of(database, "SELECT name, execution_count FROM programs") == [("qa", 7)]
        await migrate(database)
        assert await rows_of(database, query) == before
        await migrate(database, to="base")
        assert await revision(database) is None
        await migrate(database)
        assert await rows_of(database, query) == []


async def test_events_keep_their_order_on_the_way_forward_and_back(url: str) -> None:
    async with opened(url) as database:
        await migrate(database, to="0002")
        now = f"TIMESTAMPTZ '{NOW}'" if not database.is_sqlite else f"'{NOW[:26]}'"
        columns = "id, workspace, created_at, updated_at, lock_version, topic, subject_id, payload"
        values = f"'%s', 'default', {now}, {now}, 0, '%s', '%s', '{{}}'"
        statement = f"INSERT INTO events ({columns}) VALUES ({values})"  # noqa: S608
        async with database.writing() as connection:
            for n in (2, 1):
                await connection.exec_driver_sql(statement % (f"019a{n:028x}", n, IDS["e"]))
        await migrate(database)
        # made before the others, and committed after them
        async with database.writing() as connection:
            await connection.exec_driver_sql(statement % (f"019a{0:028x}", 3, IDS["e"]))
        ordered = 'SELECT topic FROM events ORDER BY "position", id'
        assert await rows_of(database, ordered) == [("1",), ("2",), ("3",)]
        await migrate(database, to="0002")
        assert await rows_of(database, "SELECT topic FROM events ORDER BY id") == [
            ("3",),
            ("1",),
            ("2",),
        ]
        await migrate(database)
        assert await rows_of(database, "SELECT keep_days, keep_count FROM workspaces") == []


async def test_the_migrations_make_exactly_the_tables_of_the_resources(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def compared(connection: sa.Connection) -> Any:
        return compare_metadata(
            MigrationContext.configure(connection, opts={"compare_type": True}), metadata_of(DOMAIN)
        )

    async with opened(url) as database:
        await migrate(database)
        async with database.reading() as connection:
            assert await connection.run_sync(compared) == []


async def test_a_copied_schema_of_a_test_is_the_migrated_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schemas = []
    monkeypatch.setattr("dspex.operations.storage.migration._move", SchemaCopy())
    for name in ("migrated", "copied"):
        async with opened(f"sqlite+aiosqlite:///{tmp_path / name}") as database:
            await migrate(database)
            await require_head(database)
            schemas.append(
                await rows_of(database, "SELECT type, name, sql FROM sqlite_master ORDER BY name")
            )
    assert schemas[0] == schemas[1] != []


async def test_references_are_checked_after_a_migration_too(url: str) -> None:
    async with opened(url) as database:
        await with_old_rows(database)
        await migrate(database)
        from dspex.errors import ConflictError

        with pytest.raises(ConflictError):
            async with database.writing() as connection:
                await connection.exec_driver_sql("DELETE FROM programs")


async def test_two_that_migrate_at_once_do_it_once(url: str) -> None:
    async with opened(url) as first, opened(url) as second:
        await asyncio.gather(migrate(first), migrate(second))
        assert await revision(first) == HEAD


def test_new_databases_are_migrated_at_the_same_time_in_one_process(tmp_path: Path) -> None:
    async def create(name: str) -> None:
        async with opened(f"sqlite+aiosqlite:///{tmp_path / name}") as database:
            await migrate(database)
            await require_head(database)

    async def work(thread: int) -> None:
        await asyncio.gather(*(create(f"db-{thread}-{number}") for number in range(3)))

    with ThreadPoolExecutor(2) as threads:  # each with an event loop
        for _result in threads.map(lambda thread: finish(work(thread)), range(2)):
            pass


async def test_a_failing_migration_changes_nothing(url: str) -> None:
    async with opened(url) as database:
        await migrate(database, to="0001")
        # in the way of the last table but one that 0002 makes
        async with database.writing() as connection:
            await connection.exec_driver_sql("CREATE TABLE audit_entries (id integer)")
        with pytest.raises(StorageError, match="audit_entries"):
            await migrate(database)
        assert await revision(database) == "0001"
        async with database.reading() as connection:
            tables = await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names())
        assert "workspaces" not in tables


async def test_an_older_or_later_schema_is_refused_where_nothing_may_be_changed(url: str) -> None:
    async with opened(url) as database:
        with pytest.raises(SchemaError, match=r"no tables of dspex yet.*run `dspex db migrate`"):
            await require_head(database)
        await migrate(database, to="0001")
        with pytest.raises(
            SchemaError, match=f"has schema 0001, this dspex reads {HEAD}: run `dspex db migrate`"
        ) as it:
            await require_head(database)
        assert not it.value.is_retryable
        await migrate(database)
        await require_head(database)
        async with database.writing() as connection:
            await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        for look in (require_head, migrate):
            with pytest.raises(SchemaError, match="update dspex"):
                await look(database)


async def test_an_unknown_revision_is_refused_with_those_there_are(url: str) -> None:
    async with opened(url) as database:
        with pytest.raises(ConfigurationError, match=f"0001, 0002, .*{HEAD}"):
            await migrate(database, to="0815")


def test_the_list_of_revisions_is_that_of_the_files() -> None:
    from dspex.operations.storage import migration

    files = sorted(file.name[:4] for file in (migration._FOLDER / "versions").glob("0*.py"))
    assert ("base", *files) == REVISIONS
    assert files[-1] == HEAD


async def test_an_embedded_database_is_copied_with_all_its_rows_before_it_changes(
    tmp_path: Path,
) -> None:
    messages: list[str] = []

    async with opened(f"sqlite+aiosqlite:///{tmp_path / 'db'}") as database:
        await with_old_rows(database)  # they are still in the write-ahead log, not in the file
        await migrate(database, say=messages.append)
    assert str(tmp_path / f"db.before-{HEAD}") in messages[0]
    with contextlib.closing(sqlite3.connect(tmp_path / f"db.before-{HEAD}")) as copy:
        assert copy.execute("SELECT count(*) FROM executions").fetchone() == (1,)
        assert copy.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)


async def test_two_that_migrate_an_old_database_at_once_copy_it_once_and_as_it_was(
    tmp_path: Path,
) -> None:
    file, messages = tmp_path / "db", list[str]()
    url = f"sqlite+aiosqlite:///{file}"

    async with opened(url) as first, opened(url) as second:
        await with_old_rows(first)
        await asyncio.gather(
            *(migrate(database, say=messages.append) for database in (first, second))
        )
        await migrate(first, to="0001", say=messages.append)
        await migrate(first, say=messages.append)
    assert [text.rpartition(" ")[2] for text in messages] == [
        str(tmp_path / name)
        for name in (f"db.before-{HEAD}", "db.before-0001", f"db.before-{HEAD}.2")
    ]
    with contextlib.closing(sqlite3.connect(tmp_path / f"db.before-{HEAD}")) as copy:
        assert copy.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)


async def test_a_database_that_cannot_be_copied_is_not_migrated(tmp_path: Path) -> None:
    async with opened(f"sqlite+aiosqlite:///{tmp_path / 'db'}") as database:
        await with_old_rows(database)
        (tmp_path / f"db.before-{HEAD}.part").mkdir()
        with pytest.raises(StorageError, match="cannot copy the database"):
            await migrate(database)
        assert await revision(database) == "0001"


@pytest.mark.full
def test_the_command_migrates_there_and_back_and_shows_no_password(
    empty_postgres_url: str,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import json

    from dspex.surfaces.cli import main

    url = empty_postgres_url.replace("postgres@", "postgres:geheim@")
    monkeypatch.setenv("DSPEX_DATABASE_URL", url)

    def said(*arguments: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as exit_info:
            main(list(arguments))
        assert exit_info.value.code == code
        captured = capsys.readouterr()
        assert "geheim" not in captured.out + captured.err
        return captured.out + captured.err

    assert "run `dspex db migrate`" in said("program", "list", code=1)
    assert "run `dspex db migrate`" in said("doctor", code=1)
    assert json.loads(said("db", "migrate", "--json"))["schema"] == HEAD
    assert "already" in said("db", "migrate")
    assert f"from schema {HEAD} to 0001" in said("db", "migrate", "--to", "0001")
    assert "unknown revision '7'" in said("db", "migrate", "--to", "7", code=1)
    assert f"from schema 0001 to {HEAD}" in said("db", "migrate")
    said("program", "list")


def test_a_database_url_is_checked_and_never_shown(
    tmp_path: Path, say: Callable[[str], None]
) -> None:
    from dspex.settings import read_settings

    settings = read_settings(
        {"DSPEX_DATABASE_URL": "postgresql://me:geheim@host/db"}, folder=tmp_path
    )
    assert settings.database_url is not None
    assert "geheim" not in repr(settings)
    assert "geheim" not in Database(settings.database_url.reveal()).display_url
    with pytest.raises(ConfigurationError, match="DSPEX_DATABASE_URL: expected a URL") as caught:
        read_settings({"DSPEX_DATABASE_URL": "mysql://me:geheim@host/db"}, folder=tmp_path)
    assert "geheim" not in str(caught.value)


async def test_the_bytes_of_collections_are_counted_on_the_way_forward_and_back(url: str) -> None:
    async with opened(url) as database:
        await migrate(database, to="0009")
        now = f"TIMESTAMPTZ '{NOW}'" if not database.is_sqlite else f"'{NOW[:26]}'"
        columns = (
            "id, workspace, created_at, updated_at, lock_version, name, status, dimensions, "
            "chunking, language, index_id, revision, documents, chunks, characters, "
            "embedded_tokens, cost_usd"
        )
        async with database.writing() as connection:
            for number, (workspace, dimensions) in enumerate((("a", 10), ("a", "NULL"), ("b", 1))):
                key = f"019a{number:028x}"
                values = (
                    f"'{key}', '{workspace}', {now}, {now}, 0, 'c{number}', 'ready', {dimensions}, "
                    f"'{{}}', '', '{key}', 1, 1, 3, 100, 0, 0"
                )
                statement = f"INSERT INTO collections ({columns}) VALUES ({values})"  # noqa: S608
                await connection.exec_driver_sql(statement)
        await migrate(database)
        query = "SELECT workspace, stored_bytes FROM workspace_usages ORDER BY workspace"
        assert await rows_of(database, query) == [("a", 320.0), ("b", 112.0)]
        await migrate(database, to="0009")
        assert await rows_of(database, query) == [("a", 0.0), ("b", 0.0)]
        await migrate(database)
        assert await rows_of(database, query) == [("a", 320.0), ("b", 112.0)]


async def test_trials_are_moved_forward_and_back(url: str) -> None:
    async with opened(url) as database:
        await with_old_rows(database)
        await migrate(database, to="0010")
        now = f"TIMESTAMPTZ '{NOW}'" if not database.is_sqlite else f"'{NOW[:26]}'"
        job, data = f"019a{8:028x}", f"019a{9:028x}"
        trials = [
            {"trial": 0, "label": "as it is", "score": None, "rows": 0, "failed": 9, "calls": 9},
            {"trial": 1, "label": "other", "score": 0.5, "rows": 8, "failed": 1, "calls": 9},
        ]
        best = {"trial": 1, "values": {"self.temperature": 0.5}, "front": [
            {"trial": 1, "exact_match": 0.5, "label": "other"}
        ]}  # fmt: skip
        shared = f"'default', {now}, {now}, 0"
        columns = "id, workspace, created_at, updated_at, lock_version"
        statements = (
            f"INSERT INTO datasets ({columns}, name, version, split, schema, rows, row_count, "  # noqa: S608
            f"checksum, source) VALUES ('{data}', {shared}, 'd', 1, 'train', '{{}}', '[]', 0, "
            "'', '')",
            f"INSERT INTO optimization_jobs ({columns}, program_id, program_version_id, "  # noqa: S608
            "dataset_id, status, optimizer, metrics, configuration, budget, needs, progress, "
            f"attempts, actor, turn, trials, best) VALUES ('{job}', {shared}, '{IDS['p']}', "
            f"'{IDS['v']}', '{data}', 'completed', 'Joint', '[]', '{{}}', '{{}}', '{{}}', '{{}}', "
            f"1, 'me', 1, '{json.dumps(trials)}', '{json.dumps(best)}')",
        )
        async with database.writing() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)
        await migrate(database)
        columns = "number, label, score, rows, failed, calls, is_final, is_on_front"
        query = f"SELECT {columns} FROM trials ORDER BY id"  # noqa: S608
        expected = [
            (0, "as it is", None, 0, 9, 9, False, False),
            (1, "other", 0.5, 8, 1, 9, True, True),
        ]
        assert await rows_of(database, query) == expected
        await migrate(database, to="0010")
        [(text,)] = await rows_of(database, "SELECT trials FROM optimization_jobs")
        assert (json.loads(text) if isinstance(text, str) else text) == trials
        await migrate(database)
        assert await rows_of(database, query) == expected
