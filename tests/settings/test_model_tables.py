"""Tables [models.NAME]: every wrong field is named with its table."""

import json
import tomllib

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.errors import ConfigurationError
from dspex.settings import config_schema, read_settings
from dspex.settings.kinds import InvalidTableError, InvalidValueError
from dspex.settings.model_tables import FIELDS, MODELS

WHOLE = """
[models.cheap]
model = "openai/gpt-4o-mini"
cache = true
timeout = 20
requests_per_minute = 600
concurrency = 8
extra_body = { reasoning_effort = "low" }
budget = { usd = 5.0, calls = 1000 }
fallback = ["ollama/llama3"]
[models.main]
models = ["cheap", "anthropic/claude-sonnet-4-5"]
policy = "weighted"
weights = [3, 1]
attempts = 3
patience = 2.5
circuit = { interval = 2, consecutive = 3 }
"""


def read(tmp_path, text):
    (tmp_path / "dspex.toml").write_text(text)
    return read_settings({}, folder=tmp_path)


def test_all_fields_are_read_and_the_schema_accepts_them(tmp_path):
    models = read(tmp_path, WHOLE).models
    assert models["main"]["weights"] == (3, 1)
    assert models["cheap"]["budget"] == {"usd": 5.0, "calls": 1000}
    jsonschema.validate(tomllib.loads(WHOLE), config_schema())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models = 1", "models in"),
        ("[models]\nmain = 'openai/x'", "models.main in .*: expected a table"),
        ("[models.'a b']\nmodel = 'x'", "models.a b in .*: a name has"),
        ("[models.a]", "models.a.model in .*: expected either `model` or `models`"),
        ("[models.a]\nmodel='x'\nmodels=['y']", "expected either"),
        ("[models.a]\nmodel='x'\ntimeuot=3", "models.a.timeuot .* Did you mean 'timeout'"),
        ("[models.a]\nmodel='x'\nattempts=true", "models.a.attempts in .*: expected a whole"),
        ("[models.a]\nmodel='x'\ntimeout=nan", "models.a.timeout in .*: expected a number"),
        ("[models.a]\nmodel='x'\npolicy='cost'", "models.a.policy in .*: only a route has it"),
        ("[models.a]\nmodels=['x']\npolicy='best'", "models.a.policy in .*: expected one of pri"),
        ("[models.a]\nmodels=['x']\nweights=[1,2]", "models.a.weights in .*: expected 1 numbers"),
        ("[models.a]\nmodels=['x']\ntimeout=1", "models.a.timeout in .*: only a table with"),
        ("[models.a]\nmodels=[]", "models.a.models in .*: expected a list"),
        ("[models.a]\nmodels=['x']\ncircuit={ratio=2}", "models.a.circuit.ratio in .*from 0.001"),
        ("[models.a]\nmodel='x'\nbudget={eur=2}", "models.a.budget.eur in .*: there is no such"),
        ("[models.a]\nmodel='x'\nextra_body={d=2020-01-01}", "models.a.extra_body in .*JSON"),
    ],
)
def test_a_wrong_field_is_named_with_its_table(tmp_path, text, message):
    with pytest.raises(ConfigurationError, match=message):
        read(tmp_path, text)


def test_a_password_in_a_url_is_refused_and_not_shown(tmp_path):
    with pytest.raises(ConfigurationError, match=r"models\.a\.model") as info:
        read(tmp_path, "[models.a]\nmodel = 'http://u:hunter2@host/v1#x'")
    assert "hunter2" not in info.value.message


def test_the_environment_takes_json():
    models = read_settings({"DSPEX_MODELS": '{"a": {"model": "ollama/x"}}'}).models
    assert models == {"a": {"model": "ollama/x"}}
    with pytest.raises(ConfigurationError, match="DSPEX_MODELS: expected JSON"):
        read_settings({"DSPEX_MODELS": "a=ollama/x"})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda part: (
        st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=8), part, max_size=3)
    ),
    max_leaves=8,
)
TABLES = st.dictionaries(
    st.sampled_from(["a", "main", "b.c", ""]),
    st.dictionaries(st.sampled_from([*FIELDS, "other"]), VALUES, max_size=5) | VALUES,
    max_size=3,
)


@settings(deadline=None)
@given(TABLES | VALUES)
def test_any_value_is_read_or_refused_with_a_path(value):
    try:
        MODELS.parse(value)
    except InvalidValueError as error:
        text = str([*error.problems] if isinstance(error, InvalidTableError) else error)
    else:
        text = "accepted"
        tables = json.loads(value) if isinstance(value, str) else value
        jsonschema.validate(json.loads(json.dumps(tables)), MODELS.json_schema)
    assert text
