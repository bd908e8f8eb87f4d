"""Fixtures of all tests."""

import asyncio
import functools
import gc
import inspect
import os
import re
import sys
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgres import (  # fixtures of tests in every folder
    empty_postgres_url,
    on_each_database,
    postgres_server,
    postgres_template,
    postgres_url,
)
from tests.support.sqlite import copy_schemas, real_migrations

ENVIRONMENT = os.environ
__all__ = [
    "empty_postgres_url",
    "on_each_database",
    "postgres_server",
    "postgres_template",
    "postgres_url",
    "real_migrations",
]
ROOT = Path(__file__).parent.parent
DEADLINE, SLOW_DEADLINE = 300.0, 900.0  # seconds, for a test that is `async def`


# Tests of these open databases, one after the other: they belong to the layer "full".
FULL = (
    *(
        "surfaces/api",
        "operations",
        "bootstrap/test_own_resource.py",
        "surfaces/test_pytest_plugin.py",
    ),
    *("surfaces/cli/test_commands.py", "surfaces/cli/test_data.py", "bootstrap/test_open_store.py"),
)
# A job and an execution on the mock backend stay fast; what they are made of is tried without
# waiting for all the rest.
FAST = (
    "test_an_evaluation_on_the_mock_backend_is_a_job",
    "test_a_program_is_created_ready_and_executed_on_a_model",
)


NONE = r"(?!)"
# Matrices whose tests start processes: some cases of each stay in their layer, the others are slow.
MATRICES = {
    "operations/jobs/": (
        "postgres",
        re.compile("test_survivors_take_the_jobs_of_the_dead_and_of_the_stopped"),
    ),
    "execution/backends/dspy_bridge/": (
        "second",
        re.compile(
            r"/test_bridge\.py::test_(modules_of_dspy|a_users_own_module|an_optimizer_of_dspy|"
            r"evaluation_scores|two_versions)"
        ),
    ),
    "operations/collections/test_kills.py": ("postgres", re.compile(NONE)),
}
MARKED = re.compile(r"^pytestmark = .*\bpytest\.mark\.(bridge|full|slow)\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files whose tests are all in an excluded layer: importing them takes seconds."""
    if not collection_path.name.startswith("test_") or collection_path.suffix != ".py":
        return None
    text = collection_path.read_text(encoding="utf-8")
    place = collection_path.relative_to(Path(__file__).parent).as_posix()
    marked = MARKED.search(text)
    layer = marked[1] if marked else "full" if place.startswith(FULL) else "fast"
    is_excluded = f"not {layer}" in config.option.markexpr
    return True if is_excluded and not any(name in text for name in FAST) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put every test into its layer.

    A marker at the test or in its file says more than its folder.
    """
    here = Path(__file__).parent
    for item in items:
        place = (
            f"{item.path.relative_to(here).as_posix()}::{item.name}"
            if item.path.is_relative_to(here)
            else ""
        )
        is_marked = any(item.get_closest_marker(name) for name in ("bridge", "full"))
        if place.startswith(FULL) and not is_marked and not any(name in place for name in FAST):
            item.add_marker(pytest.mark.full)
        if _is_slow_case(item, place):
            item.add_marker(pytest.mark.slow)


def pytest_configure() -> None:
    """Collect garbage less often: it took a sixth of the time."""
    gc.set_threshold(5_000, 20, 50)


def pytest_collection_finish() -> None:
    """Leave what is loaded by now out of collections of garbage."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """New SQLite databases are copies."""
    copy_schemas()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Adapters that a test, or the code of a page, registers end with it."""
    registry = sys.modules.get("dspex.execution.adapters.registry")
    if registry is not None:
        registry.ADAPTERS._custom.clear()


def _is_slow_case(item: pytest.Item, place: str) -> bool:
    parameters = getattr(item, "callspec", None)
    return any(
        place.startswith(folder)
        and kept.search(place) is None
        and parameters is not None
        and case in parameters.params.values()
        for folder, (case, kept) in MATRICES.items()
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Give every `async def` test a deadline: one that hangs fails."""
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        is_slow = pyfuncitem.get_closest_marker("slow") is not None
        pyfuncitem.obj = _bounded(pyfuncitem.obj, SLOW_DEADLINE if is_slow else DEADLINE)
    return (yield)


def _bounded(
    test: Callable[..., Coroutine[Any, Any, None]], seconds: float
) -> Callable[..., Coroutine[Any, Any, None]]:
    @functools.wraps(test)
    async def run(**arguments: Any) -> None:
        async with asyncio.timeout(seconds):
            await test(**arguments)

    return run


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop of `async def` tests and fixtures."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _forget_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forget the modules that a test wrote and imported: the next one may have another `app.py`."""
    modules, path, folder = set(sys.modules), list(sys.path), tmp_path_factory.getbasetemp()
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).is_relative_to(folder):
            del sys.modules[name]


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
        if (
            name.startswith("DSPEX_")
            and not name.startswith("DSPEX_TEST_")
            and name != "DSPEX_SHARED"
        ):
            monkeypatch.delenv(name)
    monkeypatch.delenv("COLUMNS", raising=False)  # output is not cut, as without a terminal
