"""The choice of a backend: explicit, else test mode, else configuration, else native."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dspex.errors import InputError
from dspex.execution.backends import BackendPolicy, Backends, MockBackend
from dspex.execution.modules import ChainOfThought
from dspex.testing.backends import predicting

FOLDER = Path(__file__).parent
NAMES = ("native", "isolated", "dspy", "mock", "hybrid")


def backends(**policy):
    return Backends({name: MockBackend() for name in NAMES}, BackendPolicy(**policy))


def code_program():
    sys.path.insert(0, str(FOLDER))
    try:
        two_steps = importlib.import_module("two_steps")
    finally:
        sys.path.remove(str(FOLDER))
    return two_steps.TwoSteps().to_program("two")


@pytest.mark.parametrize(
    ("policy", "options", "place"),
    [
        ({}, {}, ("native", "default")),
        ({"backend": "dspy"}, {}, ("dspy", "configuration")),
        ({"backend": "dspy", "test_mode": True}, {}, ("mock", "test mode")),
        ({"test_mode": True}, {"stored": "dspy"}, ("dspy", "stored")),
        ({"test_mode": True}, {"stored": "dspy", "backend": "native"}, ("native", "asked")),
        ({"isolates_code": True}, {}, ("native", "default")),
    ],
)
def test_explicit_decides_over_test_mode_over_configuration_over_the_default(
    policy, options, place
):
    choice = backends(**policy).choose(predicting(), **options)
    assert (choice.name, choice.why) == place


def test_code_is_isolated_where_the_process_or_the_program_says_so():
    assert backends(isolates_code=True).choose(code_program()).name == "isolated"
    root = code_program().root
    alone = replace(
        code_program(), root=replace(root, config={**root.config, "isolation": "process"})
    )
    assert backends().choose(alone).name == "isolated"
    assert backends().choose(alone, backend="native").name == "native"


def test_nodes_that_name_backends_are_left_where_they_are():
    assert backends(test_mode=True).choose(predicting(backend="dspy")).name == "dspy"
    root = code_program().root
    search = replace(root.children["search"], backend="dspy")
    mixed = replace(
        code_program(), root=replace(root, children={**root.children, "search": search})
    )
    choice = backends(isolates_code=True).choose(mixed)
    assert (choice.name, choice.program) == ("hybrid", mixed)
    with pytest.raises(InputError, match="nodes on dspy cannot run as a whole in a worker"):
        backends().choose(mixed, backend="isolated")


def test_asking_for_dspy_moves_every_part_that_dspy_runs():
    choice = backends().choose(code_program(), backend="dspy")
    assert choice.name == "hybrid"
    assert [(node.id, node.backend) for node in choice.program.root.walk()] == [
        ("self", "native"),
        ("search", "dspy"),
        ("steps[0]", "dspy"),
    ]
    whole = backends().choose(ChainOfThought("q -> a").to_program("c"), backend="dspy")
    assert (whole.name, whole.program.root.backend) == ("dspy", "dspy")
    back = backends().choose(whole.program, backend="native")
    assert (back.name, back.program.content_hash) == (
        "native",
        ChainOfThought("q -> a").to_program("c").content_hash,
    )


def test_what_cannot_run_there_is_an_error_of_the_field_backend():
    missing = {
        "missing": lambda name: (
            "needs the package dspy: pip install 'dspex[dspy]'" if name == "dspy" else None
        )
    }
    only = predicting(backend="dspy", kind="dspy_retriever")
    for policy, program, backend, message in (
        ({}, predicting(), "dspyy", "Did you mean 'dspy'"),
        (missing, predicting(), "dspy", "pip install"),
        (missing, predicting(backend="dspy"), None, "pip install"),
        ({}, only, "native", "runs no part of this program"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            backends(**policy).choose(program, backend=backend)
        assert [error.field for error in caught.value.fields] == ["backend"]
