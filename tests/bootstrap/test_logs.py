"""Lines of a log, without secrets and without repeated warnings."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from dspex.bootstrap import open_services
from dspex.bootstrap.logs import RepeatFilter, set_up_logs
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.settings import Secret, Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose state lies in a fresh folder."""
    return Settings(state_dir=tmp_path / "state", cache_dir=tmp_path / "cache")


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """The loggers are afterwards as they were."""
    root, logger = logging.getLogger(), logging.getLogger("dspex")
    before = (list(root.handlers), logger.level)
    yield
    root.handlers = before[0]
    logger.setLevel(before[1])


def test_lines_are_json_and_hold_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs(
        Settings(keys={"OPENAI_API_KEY": Secret("sk-123")}, log_format="json", log_level="info")
    )
    log = logging.getLogger("dspex.api")
    log.info("refused %s", "Bearer sk-123", extra={"actor": "ada"})
    try:
        int("sk-123")
    except ValueError:
        log.exception("fault")
    stderr = capsys.readouterr().err
    first, second = [json.loads(line) for line in stderr.splitlines()]
    assert "sk-123" not in stderr
    assert (first["message"], first["actor"], first["level"]) == (
        "refused Bearer (secret)",
        "ada",
        "info",
    )
    assert "ValueError" in second["traceback"]


def test_the_same_warning_is_told_once_in_a_while_and_everything_else_each_time() -> None:
    repeats = RepeatFilter(seconds=10)

    def tell(level: int, moment: float, message: str = "away") -> bool:
        record = logging.LogRecord("dspex.jobs", level, "file", 1, "%s", (message,), None)
        record.created = moment
        return repeats.filter(record)

    assert [tell(logging.WARNING, moment) for moment in (100.0, 100.3, 109.9, 110.1, 110.2)] == [
        *(True, False, False, True, False)
    ]
    assert tell(logging.WARNING, 110.3, "back")
    assert tell(logging.ERROR, 110.3)
    assert tell(logging.INFO, 110.3)
    assert all(tell(logging.WARNING, 111.0, str(n)) for n in range(1000))


async def test_a_log_tells_of_every_execution_and_nothing_of_its_inputs(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logs(Settings(log_format="json", log_level="info"))
    async with open_services(settings) as services:
        operations = services.operations
        await create_program(
            operations, CreateProgram(name="qa", signature="q -> a", backend="mock")
        )
        execution = str(
            (
                await execute_program(
                    operations, ExecuteProgram(program="qa", inputs={"q": "private"})
                )
            ).id
        )
    stderr = capsys.readouterr().err
    [line] = [json.loads(text) for text in stderr.splitlines()]
    assert (line["execution_id"], line["program"], line["actor"], line["status"]) == (
        execution,
        "qa",
        "local",
        "completed",
    )
    assert "private" not in stderr
