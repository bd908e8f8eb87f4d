"""PostgreSQL as fixtures: one server for the session, a fresh migrated database for a test.

`DSPEX_TEST_POSTGRES_URL` names a server to use instead (its role has to be able to make databases).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from dspex.settings import Secret, Settings
from dspex.sync import run
from dspex.testing.postgres import PostgresServer, execute

EMBEDDED, POSTGRES = "sqlite", pytest.param("postgres", marks=pytest.mark.full)
DATABASES = [EMBEDDED, POSTGRES]


class GivenServer(PostgresServer):
    """A server that somebody else runs; it can be neither stopped nor started."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = urlsplit(url)

    def url(self, database: str = "") -> str:
        return (
            urlunsplit(self._url._replace(path=f"/{database}"))
            if database
            else urlunsplit(self._url)
        )

    def __enter__(self) -> "GivenServer":
        return self

    def __exit__(self, *_error: object) -> None:
        pass


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests. A test that stops a server starts another one.

    `with PostgresServer() as own`.
    """
    url = os.environ.get("DSPEX_TEST_POSTGRES_URL")
    with GivenServer(url) if url else PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of a migrated database that others are copied from (0.05 s each)."""
    name = postgres_server.make()
    migrated(postgres_server.url(name))
    yield name
    postgres_server.drop(name)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """The URL of a fresh database with the current schema."""
    name = postgres_server.make(template=postgres_template)
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a fresh database without a schema."""
    name = postgres_server.make()
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture(params=DATABASES)
def on_each_database(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings over a fresh database: a test that takes this runs on SQLite and on PostgreSQL."""
    url = Secret(request.getfixturevalue("postgres_url")) if request.param == "postgres" else None
    return Settings(state_dir=tmp_path / "state", cache_dir=tmp_path / "cache", database_url=url)


def migrated(url: str) -> None:
    """Bring the database of `url` to the current schema."""

    from dspex.operations.storage import Database, migrate  # costs more than most tests do

    async def work() -> None:
        database = Database(url)
        try:
            await migrate(database)
        finally:
            await database.aclose()

    run(work())


__all__ = [
    "DATABASES",
    "execute",
    "migrated",
    "on_each_database",
    "postgres_server",
    "postgres_template",
]
