"""One line for each request, without what may be secret."""

import logging
from pathlib import Path

import pytest

from dspex.surfaces.api import ServerConfig
from tests.surfaces.api.client import serving


async def test_each_request_is_a_line_without_its_query(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dspex.requests")
    async with serving(tmp_path, ServerConfig(logs_requests=True)) as server:
        await server.ask("GET", "/v1/programs?key=secret", authorization="Bearer hidden")
        await server.ask("GET", f"/%1b%5b2J{'x' * 500}")
    lines = [record.getMessage() for record in caplog.records if record.name == "dspex.requests"]
    assert [line.split()[:3] for line in lines] == [
        ["GET", "/v1/programs", "422"],
        ["GET", f"/%1b%5b2J{'x' * 191}...", "404"],
    ]
    assert all(line.split()[4] == "ms" and float(line.split()[3]) > 0 for line in lines)
    assert "secret" not in caplog.text
    assert "hidden" not in caplog.text


async def test_nothing_is_logged_unless_it_was_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dspex.requests")
    async with serving(tmp_path, ServerConfig()) as server:
        await server.ask("GET", "/v1/programs")
    assert not [record for record in caplog.records if record.name == "dspex.requests"]
