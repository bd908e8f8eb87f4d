"""Services over a database in a temporary folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dspex.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose state lies in a fresh folder."""
    return Settings(state_dir=tmp_path / "state", cache_dir=tmp_path / "cache")


@pytest.fixture
def messages() -> list[str]:
    """The messages to the person at the terminal."""
    return []


@pytest.fixture
def say(messages: list[str]) -> Callable[[str], None]:
    """Where messages for people go."""
    return messages.append
