"""The interpreters with dspy: this one if the extra is installed.

And a second one from a variable.
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

SECOND = "DSPEX_TEST_DSPY_INTERPRETER"


@pytest.fixture(scope="session", params=["here", "second"])
def interpreter(request):
    if request.param == "here":
        if importlib.util.find_spec("dspy") is None:
            pytest.skip("dspy is not installed here: pip install 'dspex[dspy]'")
        return sys.executable
    if not Path(os.environ.get(SECOND, "nowhere")).exists():
        pytest.skip(
            f"{SECOND} names no second interpreter with another version of dspy; `make test` sets "
            "one up"
        )
    return os.environ[SECOND]


@pytest.fixture
def newest():
    """Only this interpreter, for tests that do not depend on the version of dspy."""
    if importlib.util.find_spec("dspy") is None:
        pytest.skip("dspy is not installed here: pip install 'dspex[dspy]'")
    return sys.executable


@pytest.fixture
def folder():
    return str(Path(__file__).parent / "programs")
