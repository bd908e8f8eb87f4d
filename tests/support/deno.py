"""Whether the sandbox "deno" can be used here."""

import pytest

from dspex.errors import ConfigurationError
from dspex.execution.sandbox.deno import find_deno, find_pyodide


def skip_without_deno() -> None:
    """Skip the test, with the reason, unless deno and Pyodide are installed."""
    try:
        find_deno()
        find_pyodide()
    except ConfigurationError as error:
        pytest.skip(error.message)
