import asyncio
import sys
import threading
from pathlib import Path

import pytest

import dspex
from dspex.errors import ConfigurationError
from dspex.execution.clients import LocalModel, OpenAIModel, Retrying
from dspex.execution.clients.modalities import MODALITIES
from dspex.execution.context import RunContext, current, update_default
from dspex.session import ModelResolver
from dspex.settings import Secret, Settings, read_settings
from dspex.telemetry import Collecting
from dspex.testing import ScriptedModel

REPLY = "[[ ## answer ## ]]\n"


@pytest.fixture(autouse=True)
def _fresh_default():
    update_default(lambda _: RunContext())
    yield
    update_default(lambda _: RunContext())


def test_forgetting_a_model_shows_the_three_ways_to_set_one():
    with pytest.raises(ConfigurationError) as caught:
        dspex.Predict("question -> answer")(question="why?")
    for way in (
        "dspex.configure(model=",
        "with dspex.context(model=",
        "dspex.Predict(signature, model=",
    ):
        assert way in str(caught.value)


def test_a_module_decides_over_the_block_and_the_block_over_the_process():
    process, block, module = (
        ScriptedModel(f"{REPLY}{name}") for name in ("process", "block", "own")
    )
    dspex.configure(model=process)
    free, bound = (
        dspex.Predict("question -> answer"),
        dspex.Predict("question -> answer", model=module),
    )
    assert free(question="q").answer == "process"
    with dspex.context(model=block):
        assert free(question="q").answer == "block"
        assert bound(question="q").answer == "own"
        with dspex.context(adapter="json"):
            assert current().model is block
    assert free(question="q").answer == "process"
    assert free(RunContext(model=module), question="q").answer == "own"


def test_what_is_not_given_stays_as_it_was():
    observer = Collecting()
    dspex.configure(model=ScriptedModel("x"), observer=observer)
    dspex.configure(seed=3)
    assert (current().observer, current().seed) == (observer, 3)


async def test_two_contexts_in_one_loop_never_meet():
    ask = dspex.Predict("question -> answer")

    async def user(name: str, rounds: int) -> list[str]:
        with dspex.context(model=ScriptedModel(f"{REPLY}{name}", name=name)):
            answers = []
            for _ in range(rounds):
                prediction = await ask.acall(question="who?")
                assert list(prediction.usage.by_model) == [name]
                answers.append(prediction.answer)
            return answers

    assert (await asyncio.gather(*(user(f"u{n}", 5) for n in range(20)))) == [
        [f"u{n}"] * 5 for n in range(20)
    ]


def test_a_block_in_one_thread_is_not_seen_in_another():
    models = []
    with dspex.context(model=ScriptedModel("x")):
        thread = threading.Thread(target=lambda: models.append(current().model))
        thread.start()
        thread.join()
    assert models == [None]


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("openai/gpt-4o-mini", Retrying, "https://api.openai.com/v1/chat/completions"),
        ("ollama/llama3", Retrying, "http://127.0.0.1:11434/v1/chat/completions"),
        ("http://host:1/v1#name", Retrying, "http://host:1/v1/chat/completions"),
        ("~/models/x.gguf", LocalModel, str(Path("~/models/x.gguf").expanduser())),
    ],
)
def test_model_strings_are_understood(text, kind, expected):
    resolve = ModelResolver(Settings(keys={"OPENAI_API_KEY": Secret("sk-hidden")}))
    model = resolve(text)
    assert isinstance(model, kind)
    assert expected in repr(model)
    assert "sk-hidden" not in repr(model)
    assert resolve(text) is model


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("opnai/gpt-4o", "Did you mean 'openai'"),
        ("gpt-4o", "unknown model"),
        ("openai/gpt-4o", "set OPENAI_API_KEY"),
        ("http://host/v1", "http://host/v1#name"),
        ("local/gemma9", "gemma3-270m"),
        ("", "unknown model"),
    ],
)
def test_a_wrong_model_string_says_how_to_mend_it(text, message):
    with pytest.raises(ConfigurationError, match=message):
        ModelResolver(Settings())(text)


def test_an_unknown_adapter_is_refused_at_once():
    with pytest.raises(ConfigurationError, match="chat"), dspex.context(adapter="yaml"):
        pass


def test_the_model_set_in_the_environment_or_file_is_no_secret_and_keys_are(tmp_path):
    from dspex.settings import read_settings

    (tmp_path / "dspex.toml").write_text('model = "ollama/a"\nthreads = 3\n')
    settings = read_settings({"DSPEX_MODEL": "ollama/b", "OPENAI_API_KEY": "sk-1"}, folder=tmp_path)
    assert (settings.model, settings.threads) == ("ollama/b", 3)
    assert settings.keys["OPENAI_API_KEY"].reveal() == "sk-1"
    assert "sk-1" not in repr(settings)


def test_where_programs_run_is_read_from_the_environment_or_the_file(tmp_path):
    from dspex.settings import read_settings

    (tmp_path / "dspex.toml").write_text('isolation = "process"\ntest_mode = true\nworkers = 4\n')
    result = read_settings(
        {"DSPEX_BACKEND": "dspy", "DSPEX_DSPY_INTERPRETER": sys.executable}, folder=tmp_path
    )
    assert (result.isolation, result.test_mode, result.workers, result.backend) == (
        "process",
        True,
        4,
        "dspy",
    )
    assert result.dspy_interpreter == sys.executable


def test_every_wrong_setting_is_told_at_once(tmp_path):
    from dspex.settings import read_settings

    (tmp_path / "dspex.toml").write_text('modell = "x"\nport = "many"\n')
    with pytest.raises(ConfigurationError) as caught:
        read_settings(
            {
                "DSPEX_THREADS": "-1",
                "DSPEX_BACKEND": "dpsy",
                "DSPEX_TEST_MODE": "maybe",
                "DSPEX_ISOLATION": "thread",
                "DSPEX_WORKERS": "0",
                "DSPEX_ALLOWED_HOSTS": "a.example.org, api.example.org:8123",
                "DSPEX_DSPY_INTERPRETER": str(tmp_path / "python"),
            },
            folder=tmp_path,
        )
    text = str(caught.value)
    assert "DSPEX_BACKEND: expected one of native, isolated, dspy, mock, but it is 'dpsy'" in text
    assert "DSPEX_TEST_MODE: expected true or false" in text
    assert "DSPEX_ISOLATION: expected one of inline, process" in text
    assert "DSPEX_WORKERS: expected a number from 1 to 256" in text
    assert (
        "DSPEX_ALLOWED_HOSTS: expected names of hosts separated by commas, without scheme and port"
        in text
    )
    assert "DSPEX_DSPY_INTERPRETER: expected a Python that can be run" in text
    assert "Did you mean 'model'" in text
    assert "port" in text
    assert "DSPEX_THREADS" in text


def test_openai_model_is_reachable_by_its_class_too():
    assert OpenAIModel("m", api_key="k").name == "m"


def test_what_a_model_takes_is_declared_in_the_settings(tmp_path: Path) -> None:
    (tmp_path / "dspex.toml").write_text(
        '[media_models]\n"http://127.0.0.1:9/v1#m" = "vision+audio"\n"openai/gpt-4o" = ""\n'
    )
    settings = read_settings({"OPENAI_API_KEY": "k" * 20}, folder=tmp_path)
    resolve = ModelResolver(settings)
    takes = {
        model: resolve(model).capabilities & set(MODALITIES)
        for model in ("http://127.0.0.1:9/v1#m", "openai/gpt-4o", "openai/gpt-4.1")
    }
    assert [*takes.values()] == [{"vision", "audio"}, set(), {"vision", "documents"}]
