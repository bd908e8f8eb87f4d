"""Fixtures of all tests."""

import os
from pathlib import Path

import pytest

from tests.support.postgres import (  # fixtures of tests in every folder
    empty_postgres_url,
    on_each_database,
    postgres_server,
    postgres_template,
    postgres_url,
)

ENVIRONMENT = os.environ
__all__ = ["empty_postgres_url", "on_each_database", "postgres_server", "postgres_template", "postgres_url"]
ROOT = Path(__file__).parent.parent


@pytest.fixture
def shared() -> Path:
    """The folder of shared data and yardsticks beside the repository."""
    folder = Path(ENVIRONMENT.get("DSPEX_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"the shared data are not at {folder} (set DSPEX_SHARED)")
    return folder


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the developer's own shell do not reach the tests."""
    for name in list(ENVIRONMENT):
        if name.startswith("DSPEX_") and not name.startswith("DSPEX_TEST_") and name != "DSPEX_SHARED":
            monkeypatch.delenv(name)
