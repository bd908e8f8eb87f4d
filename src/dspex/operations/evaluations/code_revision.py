"""The code that a job needs of its workers."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dspex.execution.modules.code import CodeRoot
from dspex.language.programs import Program
from dspex.operations.evaluations.metrics import target_of

_SKIPPED = {"__pycache__", "node_modules"}


def needs_of(
    programs: Sequence[Program], metrics: Sequence[Any], code: CodeRoot | None
) -> dict[str, Any]:
    """Return the code root and revision that a worker must have; empty if the job needs no code."""
    nodes = [node for program in programs for node in program.root.walk()]
    is_code = any(node.kind in {"python", "dspy"} for node in nodes)
    if code is None or not (is_code or any(":" in target_of(str(metric)) for metric in metrics)):
        return {}
    return {"code": code.name, "revision": revision_of(code)}


def revision_of(code: CodeRoot) -> str:
    """Return a hash of all Python files in a code root, except hidden folders and environments."""
    digest = hashlib.blake2b(digest_size=8)
    for file in _sources(code.folder):
        digest.update(str(file.relative_to(code.folder)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _sources(folder: Path) -> list[Path]:
    files: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name in _SKIPPED or entry.is_symlink():
            continue
        if entry.is_dir() and not (entry / "pyvenv.cfg").exists():
            files += _sources(entry)
        elif entry.suffix == ".py":
            files.append(entry)
    return files
