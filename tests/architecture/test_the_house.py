"""The rules of the layout that no other tool checks."""

import ast
import importlib
import inspect
import re

import pytest

import dspex
from dspex import errors
from tests.architecture.source import FILES, SOURCE, TESTS, nodes_of, tree_of

# tests of the package as a whole, and what tests share
NOT_ROOMS = {"architecture", "changes", "compat", "docs", "product", "support"}
# programs that tests load
NOT_TESTS = {"execution/backends/dspy_bridge/programs"}


def test_no_module_is_longer_than_500_lines() -> None:
    long = {
        file.name: count for file in FILES if (count := len(file.read_text().splitlines())) > 500
    }
    assert not long


def test_no_comment_follows_a_closing_bracket() -> None:
    """Such a comment makes the formatter break a statement that fits on one line."""
    comment = re.compile(r"^ *[\])}]+:?,? +#(?! fmt| noqa| type)", re.MULTILINE)
    files = [*FILES, *TESTS.rglob("*.py")]
    assert [file.name for file in files if comment.search(file.read_text(encoding="utf-8"))] == []


def test_only_sqlite_opens_the_files_of_a_database() -> None:
    """Closing another descriptor of such a file drops all locks that the process holds on it."""
    readers = {"open", "read_bytes", "read_text", "write_bytes", "write_text", "copy", "copyfile"}
    calls = [
        f"{file.name}:{node.lineno}"
        for file in (SOURCE / "operations" / "storage").rglob("*.py")
        for node in nodes_of(file)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in readers
        and ast.unparse(node.func).partition(".")[0] in {"open", "os", "shutil", "Path", "self"}
    ]
    assert not calls


def test_no_function_is_longer_than_60_lines() -> None:
    long = [
        f"{file.relative_to(SOURCE)}:{node.name}"
        for file in FILES
        for node in nodes_of(file)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= 60
    ]
    assert not long


def test_no_room_has_a_vague_name() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc"}
    assert not [file for file in FILES if file.stem in vague or file.parent.name in vague]


def test_the_tests_mirror_the_rooms() -> None:
    rooms = {file.parent.relative_to(SOURCE).as_posix() for file in FILES}
    folders = {file.parent.relative_to(TESTS) for file in TESTS.rglob("*.py")}
    mirrors = {path.as_posix() for path in folders if not NOT_ROOMS.intersection(path.parts[:1])}
    assert mirrors - rooms == NOT_TESTS


def test_a_room_exports_at_most_16_names() -> None:
    wide = {}
    for file in FILES:
        if file.name != "__init__.py" or file.parent == SOURCE:
            continue
        names = [
            alias.name
            for node in tree_of(file).body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        ]
        if len(names) > 16:
            wide[str(file.relative_to(SOURCE))] = len(names)
    assert not wide


def test_every_room_says_what_it_is() -> None:
    silent = [file for file in FILES if ast.get_docstring(tree_of(file)) is None]
    assert not silent


def test_the_top_exports_at_most_60_names_and_each_of_them_exists() -> None:
    assert len(dspex.__all__) <= 60
    assert sorted(dspex.__all__) == sorted({*dspex._HOME_OF, "__version__"})
    for name in dspex.__all__:
        assert getattr(dspex, name) is not None


@pytest.mark.parametrize("room", dspex.ROOMS)
def test_each_public_room_lists_its_names_and_is_reached_from_the_top(room: str) -> None:
    module = getattr(dspex, room)
    assert module.__name__ == f"dspex.{room}"
    assert module.__doc__
    assert sorted(module.__all__) == sorted(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_a_public_name_means_the_same_thing_in_every_room() -> None:
    meanings: dict[str, set[int]] = {}
    for module in (dspex, *(getattr(dspex, room) for room in dspex.ROOMS)):
        for name in module.__all__:
            meanings.setdefault(name, set()).add(id(getattr(module, name)))
    assert [name for name, values in meanings.items() if len(values) > 1] == []


def test_an_unknown_name_of_the_top_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Predikt'"):
        dspex.Predikt  # noqa: B018


def test_the_error_tree_in_the_docstring_is_that_of_the_classes() -> None:
    tree_lines = [
        line
        for line in (errors.__doc__ or "").splitlines()
        if re.fullmatch(r" *[A-Z]\w+Error", line)
    ]
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in tree_lines:
        depth = (len(line) - len(line.lstrip())) // 4
        path[depth:] = [line.strip()]
        parents[path[-1]] = path[-2] if depth else None
    bases = {
        name: cls.__bases__[0].__name__ if cls.__bases__[0] is not Exception else None
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, errors.DspexError)
    }
    assert parents == bases
    assert set(errors.__all__) == {*bases, "FieldError"}


def test_every_error_has_a_code_of_its_own() -> None:
    classes = [
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, errors.DspexError)
    ]
    assert len({cls.code for cls in classes}) == len(classes)


def test_every_module_can_be_imported_alone() -> None:
    for file in FILES:
        name = ".".join(("dspex", *file.relative_to(SOURCE).with_suffix("").parts))
        if "migrations" not in name and not name.endswith("__main__") and "child" not in name:
            importlib.import_module(name.removesuffix(".__init__"))


def test_the_repository_names_no_machine_path() -> None:
    pattern = re.compile(r"/(tm" r"p|wor" r"k|roo" r"t)/")
    files = [str(file) for file in FILES if pattern.search(file.read_text())]
    assert not files
