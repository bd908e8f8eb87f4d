"""Each protocol with a contract suite.

Every class that implements it is named in a subclass of the suite.
"""

import ast
import inspect
from pathlib import Path

import pytest

import dspex
from dspex.testing import contracts
from tests.architecture.source import FILES, TESTS, tree_of

SUITES = {
    # suite: the methods that make a class an implementation
    "LanguageModelContract": {"complete", "aclose"},
    "AdapterContract": {"render", "parse"},
}
EXEMPT = {
    "AsyncParentEngine": "implements a protocol of dspy whose methods have these names",
    "MissingKeyModel": "answers nothing: it says which key was revoked",
    "NoModel": "answers nothing: it says how to set a model",
    "_CapturingModel": "answers nothing: it keeps the request to be shown",
}
TOOLS = {"from_function", "from_module"}


def _classes(file: Path) -> list[ast.ClassDef]:
    return [node for node in tree_of(file).body if isinstance(node, ast.ClassDef)]


def _names(node: ast.AST) -> set[str]:
    found = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return found | {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}


def _methods(made: ast.ClassDef) -> set[str]:
    return {
        part.name for part in made.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def implementations(methods: set[str]) -> set[str]:
    """Return the names of the classes in the source that have `methods`.

    An abstract class with them may also be their base.
    """
    classes = [made for file in FILES for made in _classes(file)]
    bases = {made: set().union(*map(_names, made.bases)) for made in classes}
    found = [made for made in classes if methods <= _methods(made)]
    abstract = {made.name for made in found if "ABC" in bases[made]}
    found += [made for made in classes if bases[made] & abstract]
    return {made.name for made in found if not bases[made] & {"ABC", "Protocol"}}


def tried(suite: str) -> set[str]:
    """Return every name in a subclass of `suite`.

    Those in the values at the top of its file that it names are among them.
    """
    found: set[str] = set()
    for file in TESTS.rglob("test_*.py"):
        if suite not in file.read_text():
            continue
        tree = tree_of(file)
        values = {
            target.id: _names(part.value)
            for part in tree.body
            if isinstance(part, ast.Assign)
            for target in part.targets
            if isinstance(target, ast.Name)
        }
        for made in _classes(file):
            if any(suite in _names(base) for base in made.bases):
                names = _names(made)
                found |= names.union(*(values.get(name, set()) for name in names))
    return found


@pytest.mark.parametrize("suite", SUITES)
def test_every_implementation_is_named_in_its_suite(suite):
    made = implementations(SUITES[suite])
    assert len(made) >= 3
    assert made - tried(suite) - EXEMPT.keys() == set()


def test_every_backend_is_named_in_its_suite():
    made = implementations({"create_program", "execute_program", "list_programs"})
    assert len(made) >= 6
    assert made - tried("BackendContract") - tried("OptimizingBackendContract") == set()


def test_what_is_exempt_exists():
    assert EXEMPT.keys() <= {
        name for methods in SUITES.values() for name in implementations(methods)
    }


def test_both_ways_to_a_tool_are_tried():
    assert {
        name
        for name, _ in inspect.getmembers(dspex.Tool, inspect.ismethod)
        if name.startswith("from_")
    } == TOOLS
    assert tried("ToolContract") >= TOOLS


def test_no_suite_is_forgotten_here():
    suites = {
        name
        for name, made in inspect.getmembers(contracts, inspect.isclass)
        if name.endswith("Contract")
    }
    assert suites == {*SUITES, "ToolContract"}
