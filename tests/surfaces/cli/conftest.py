"""Fixtures of the tests of commands."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_modules_of_other_folders(tmp_path: Path) -> Iterator[None]:
    """Forget the modules that a test imports: the next one has another `app.py`."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        place = getattr(sys.modules[name], "__file__", None)
        if place is not None and Path(place).is_relative_to(tmp_path):
            del sys.modules[name]
