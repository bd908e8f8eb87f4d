"""Each protocol with a contract suite.

Every class that implements it is named in a subclass of the suite.
"""

import ast
import inspect
from pathlib import Path

import pytest

import dspex
from dspex.testing import contracts, embedders
from tests.architecture.source import FILES, TESTS, tree_of

SUITES = {
    # suite: the methods that make a class an implementation
    "LanguageModelContract": {"complete", "aclose"},
    "AdapterContract": {"render", "parse"},
    "EmbedderContract": {"embed", "aclose"},
}
EXEMPT = {
    "EmbedderModel": "answers with vectors, and only to embedders",
    "AsyncParentEngine": "implements a protocol of dspy whose methods have these names",
    "MissingKeyModel": "answers nothing: it says which key was revoked",
    "NoModel": "answers nothing: it says how to set a model",
    "_CapturingModel": "answers nothing: it keeps the request to be shown",
}
TOOLS = {"from_function", "from_module"}


def _classes(file: Path) -> list[ast.ClassDef]:
    return [node for node in tree_of(file).body if isinstance(node, ast.ClassDef)]


def _names(node: ast.AST) -> set[str]:
    identifiers = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return identifiers | {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}


def _methods(cls: ast.ClassDef) -> set[str]:
    return {
        part.name for part in cls.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def implementations(methods: set[str]) -> set[str]:
    """Return the names of the classes in the source that have `methods`.

    An abstract class with them may also be their base.
    """
    classes = [cls for file in FILES for cls in _classes(file)]
    bases = {cls: set().union(*map(_names, cls.bases)) for cls in classes}
    matches = [cls for cls in classes if methods <= _methods(cls)]
    abstract = {cls.name for cls in matches if "ABC" in bases[cls]}
    matches += [cls for cls in classes if bases[cls] & abstract]
    return {cls.name for cls in matches if not bases[cls] & {"ABC", "Protocol"}}


def tried(suite: str) -> set[str]:
    """Return every name in a subclass of `suite`.

    Those in the values at the top of its file that it names are among them.
    """
    identifiers: set[str] = set()
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
        for cls in _classes(file):
            if any(suite in _names(base) for base in cls.bases):
                names = _names(cls)
                identifiers |= names.union(*(values.get(name, set()) for name in names))
    return identifiers


@pytest.mark.parametrize("suite", SUITES)
def test_every_implementation_is_named_in_its_suite(suite):
    classes = implementations(SUITES[suite])
    assert len(classes) >= 3
    assert classes - tried(suite) - EXEMPT.keys() == set()


def test_every_backend_is_named_in_its_suite():
    classes = implementations({"create_program", "execute_program", "list_programs"})
    assert len(classes) >= 6
    assert classes - tried("BackendContract") - tried("OptimizingBackendContract") == set()


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
        for module in (contracts, embedders)
        for name, cls in inspect.getmembers(module, inspect.isclass)
        if name.endswith("Contract")
    }
    assert suites == {*SUITES, "ToolContract"}
