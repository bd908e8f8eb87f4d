"""Uses the provider "echo" by its model string: in Python, with its key, and in messages."""

from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.errors import ConfigurationError
from dspex.execution.clients import Request
from dspex.language.records import Message
from dspex.session import ModelResolver, check_model, key_of
from dspex.settings import Secret, Settings
from dspex.sync import run

assert Path(dspex.__file__).parent.parent == Path.cwd()
assert key_of("echo/m") == "ECHO_API_KEY"
check_model("echo/m")
resolver = ModelResolver(Settings(keys={"ECHO_API_KEY": Secret("k")}))
model: Any = resolver("echo/m")
assert (model.name, model.model.api_key) == ("echo/m", "k")
response = run(model.complete(Request(messages=(Message("user", "hello"),))))
assert response.text == "hello"
with pytest.raises(ConfigurationError, match="Did you mean 'echo'"):
    check_model("ecko/m")
