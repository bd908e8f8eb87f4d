"""Names and English that a stranger reads without a dictionary.

The lists of exceptions only shrink.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.architecture.source import FILES, SOURCE, TESTS, nodes_of

WRITTEN = [file for file in FILES if "migrations" not in file.parts]
PARTICIPLES = frozenset(
    [
        "allowed",
        "asked",
        "begun",
        "called",
        "chosen",
        "closed",
        "come",
        "done",
        "drawn",
        "ended",
        "found",
        "given",
        "gone",
        "got",
        "heard",
        "held",
        "judged",
        "kept",
        "known",
        "left",
        "looked",
        "made",
        "meant",
        "moved",
        "named",
        "needed",
        "opened",
        "other",
        "one",
        "own",
        "put",
        "read",
        "said",
        "seen",
        "sent",
        "shown",
        "spread",
        "stands",
        "stood",
        "taken",
        "there",
        "told",
        "tried",
        "wanted",
        "written",
        "added",
    ]
)
# a variable is followed by a sign or `in`, which most words of texts are not
MAYBE_VARIABLE = re.compile(rf"\b(?:{'|'.join(sorted(PARTICIPLES))})\b\s*(?:[^\w\s'\"`.;]|in\b)")
FUNCTION = re.compile(r"^ *(?:async )?def \w", re.MULTILINE)
ODD = re.compile(
    r"\b(?:is|are|was|were) no (?!longer|more|fewer|less|such|need|way)\w+"
    r"|\bof (?:one's|its|his|their) own\b|\b(?:is|are|was) (?:said|told)\b"
    r"|\bwhat (?:nobody|somebody|who)\b"
    r"|\bwhere (?:none|nothing|nobody) (?:is|are|was|were|has|have)\b|\bcomes? into\b"
    r"|\bso many\b|\bthose that\b|\b(?:hears?|tells?) (?:of|what|whether|how)\b"
    r"|\bstands? (?:in|on|for)\b|\bmay be (?:meant|had)\b|\bis (?:had|meant|asked for)\b",
    re.IGNORECASE,
)
# only shrinks
WRAPPERS = {
    "caching",
    "grouping",
    "keyring",
    "limiting",
    "merging",
    "migrating",
    "retrying",
    "sampling",
}
HOMONYMS = {"DefinitionError", "Fallback", "Question", "Row", "Run", "Runnable", "Runner", "Worker"}


def _functions(file: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in nodes_of(file) if isinstance(node, functions)]


def _variables(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the names that are set among `nodes`, and those of parameters."""
    names = {node.id for node in nodes if isinstance(node, ast.Name) and _is_set(node)}
    return names | {node.arg for node in nodes if isinstance(node, ast.arg)}


def _is_set(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _prose() -> Iterator[tuple[Path, str]]:
    """Yield the docstrings, messages and comments of the package."""
    for file in WRITTEN:
        for node in nodes_of(file):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                yield file, node.value
        for line in file.read_text(encoding="utf-8").splitlines():
            if "# " in line and "noqa" not in line:
                yield file, line.partition("# ")[2]


@pytest.mark.parametrize("files", [WRITTEN, sorted(TESTS.rglob("*.py"))], ids=["source", "tests"])
def test_variables_are_named_for_what_they_are(files: list[Path]) -> None:
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    participles = {
        f"{file}:{function.name}": sorted(names)
        for file, text in texts.items()
        if MAYBE_VARIABLE.search(text) and _variables(nodes_of(file)) & PARTICIPLES
        for function in _functions(file)
        if (names := _variables([*ast.walk(function)]) & PARTICIPLES)
    }
    functions = sum(len(FUNCTION.findall(text)) for text in texts.values())
    assert len(participles) <= 0.01 * functions, participles


def test_files_are_named_by_nouns() -> None:
    assert {file.stem for file in WRITTEN if file.stem.endswith("ing")} <= WRAPPERS


def test_a_class_name_means_one_class() -> None:
    files: dict[str, list[str]] = defaultdict(list)
    for file in WRITTEN:
        for node in nodes_of(file):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                files[node.name].append(str(file.relative_to(SOURCE)))
    assert {name: paths for name, paths in files.items() if len(paths) > 1}.keys() <= HOMONYMS


def test_prose_is_plain_english() -> None:
    texts = list(_prose())
    odd = [
        f"{file.relative_to(SOURCE)}: {phrase}"
        for file, text in texts
        for phrase in ODD.findall(text)
    ]
    assert len(odd) <= 0.001 * sum(len(text.split()) for _, text in texts), odd


def test_suppressions_of_checks_are_rare() -> None:
    lines = [line for file in WRITTEN for line in file.read_text(encoding="utf-8").splitlines()]
    suppressed = [line for line in lines if "# noqa" in line or "type: ignore" in line]
    assert len(suppressed) <= 0.003 * len(lines)
