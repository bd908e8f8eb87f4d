"""The file that a module's state is saved in: JSON, versioned."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from dspex._version import __version__
from dspex.errors import DefinitionError, boundary

FORMAT = 1


def write_state(path: Path, *, parts: Mapping[str, Any], program: Mapping[str, Any] | None) -> None:
    """Write the file in one step: a reader sees the old one or the new one."""
    data = {"format": FORMAT, "dspex": __version__, "parts": parts, "program": program}
    text = msgspec.json.format(msgspec.json.encode(data), indent=2)
    with boundary(DefinitionError, f"cannot write {str(path)!r}"):
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            partial.write_bytes(text + b"\n")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def read_state(path: Path) -> dict[str, Any]:
    """Return what `write_state` wrote.

    Raises:
        DefinitionError: it did not write this, or a later version did.
    """
    with boundary(DefinitionError, f"cannot read {str(path)!r}"):
        found = msgspec.json.decode(path.read_bytes())
    if not isinstance(found, dict) or not {"format", "parts", "program"} <= found.keys():
        hint = (
            " It looks like a state of dspy: use from_dspy_state."
            if isinstance(found, dict) and "metadata" in found
            else ""
        )
        raise DefinitionError(f"{str(path)!r} is no saved state of dspex.{hint}")
    if found["format"] != FORMAT:
        raise DefinitionError(f"{str(path)!r} has format {found['format']!r}; this dspex reads {FORMAT}: update dspex")
    return found
