"""The JSON Schema of `dspex.toml`: it accepts and refuses what the reader does."""

import json
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dspex.errors import ConfigurationError
from dspex.execution.backends.kinds import BACKEND_KINDS
from dspex.settings import Settings, config_schema, read_settings
from dspex.surfaces.cli import main

ACCEPTED = """
model = "http://host/v1#name"
model_hosts = "models.example.org:8000, localhost"
media_models = "http://host/v1#name=vision+audio, ollama/x="
adapter = "json"
database_url = "postgresql://user:password@host:5432/name"
domain = "tickets:DOMAIN"
state_dir = "~/state"
port = 0
backend = "isolated"
test_mode = true
worker_memory_mb = 512
secret_key = "0123456789abcdef0123456789abcdef"
allowed_hosts = "api.example.org,www.example.org"
trusted_proxies = "10.0.0.0/8"
redact_patterns = ["\\\\d{16}"]
log_format = "json"
[metrics]
tone = "judging:tone"
"""
REFUSED = [
    "modle = 'openai/gpt-4o-mini'",
    "model = 3",
    "port = 70000",
    "port = 8123.5",
    "port = true",
    "workers = 0",
    "backend = 'dspi'",
    "test_mode = 'perhaps'",
    "database_url = 'sqlite:///file'",
    "domain = 'tickets'",
    "secret_key = 'short'",
    "allowed_hosts = 'https://api.example.org'",
    "model_hosts = 'user@host'",
    "media_models = 'ollama/x=smell'",
    "media_models = 'ollama/x'",
    "media_models = {'ollama/x' = 'vision,audio'}",
    "redact_patterns = 3",
    "redact_patterns = [3]",
    "metrics = {'two words' = 'judging:tone'}",
    "metrics = {tone = 'judging'}",
    "[server]\nport = 8123",
]


@pytest.fixture
def validator() -> Any:
    jsonschema.Draft202012Validator.check_schema(config_schema())
    return jsonschema.Draft202012Validator(config_schema())


def read(folder: Path, text: str) -> Settings:
    (folder / "dspex.toml").write_text(text)
    return read_settings({}, folder=folder)


def test_every_setting_has_a_meaning_and_its_default_fits(validator: Any) -> None:
    properties = config_schema()["properties"]
    assert properties.keys() == {item.name for item in fields(Settings)} - {
        "keys",
        "model_url",
        "embedder_url",
    }
    assert all(schema["description"].endswith(".") for schema in properties.values())
    defaults = {name: item["default"] for name, item in properties.items() if "default" in item}
    validator.validate(defaults)
    assert defaults["port"] == 8123


def test_the_file_of_a_new_project_fits(
    validator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["init", "demo"])
    validator.validate(tomllib.loads(Path("demo/dspex.toml").read_text()))


def test_what_the_reader_accepts_fits(validator: Any, tmp_path: Path) -> None:
    assert read(tmp_path, ACCEPTED).metrics == {"tone": "judging:tone"}
    validator.validate(tomllib.loads(ACCEPTED))


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_reader_refuses_does_not_fit(text: str, validator: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        read(tmp_path, text)
    assert not validator.is_valid(tomllib.loads(text))


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["schema", "config"])
    assert (end.value.code, json.loads(capsys.readouterr().out)) == (0, config_schema())


def test_backends_name_settings_that_exist() -> None:
    names = {item.name for item in fields(Settings)}
    assert all(names.issuperset(kind.settings) for kind in BACKEND_KINDS.values())
    assert config_schema()["properties"]["backend"]["enum"] == [
        "native",
        "isolated",
        "dspy",
        "mock",
    ]


def test_settings_are_read_without_loading_the_backends() -> None:
    code = (
        "import sys; from dspex.settings import read_settings; read_settings({}); "
        "assert 'dspex.execution.backends' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
