"""The versioned JSON file with the state of a module."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from dspex._version import __version__
from dspex.errors import DefinitionError, boundary
from dspex.language.programs import Program

FORMAT = 1


class Stateful(Protocol):
    """A part of a module tree that has a state."""

    def state(self) -> Mapping[str, Any]:
        """Return the state as JSON; empty if there is none."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load what `state` returned."""
        ...


def save_parts(
    path: Path, parts: Mapping[str, Stateful], to_program: Callable[[], Program]
) -> None:
    """Write the states of the parts of a module, and its program if it can be stored."""
    states = {place: state for place, part in parts.items() if (state := part.state())}
    try:
        program = to_program().to_dict()
    except DefinitionError:  # its code cannot be imported; its state still loads into a module
        program = None
    write_state(path, parts=states, program=program)


def load_parts(path: Path, parts: Mapping[str, Stateful]) -> Mapping[str, Any]:
    """Load the saved states into the parts of a module; return the values of a saved program.

    Raises:
        DefinitionError: the file is invalid, or has a part that the module lacks.
    """
    saved = read_state(path)
    if missing := saved["parts"].keys() - parts.keys():
        raise DefinitionError(
            f"the state in {str(path)!r} has parts that this module lacks: "
            f"{', '.join(sorted(missing))}"
        )
    for place, state in saved["parts"].items():
        parts[place].restore(state)
    values: Mapping[str, Any] = saved["values"]
    return values


def write_state(path: Path, *, parts: Mapping[str, Any], program: Mapping[str, Any] | None) -> None:
    """Write the file atomically: a reader sees the old one or the new one."""
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
    """Return the `parts` and the `program` that `write_state` wrote, and empty `values`.

    A file with the JSON of a program (`Program.to_json`, `dspex optimize --output`) has no parts;
    its `values` are those of the assignment, by path.

    Raises:
        DefinitionError: the file has neither format, or a later version of dspex wrote it.
    """
    with boundary(DefinitionError, f"cannot read {str(path)!r}"):
        data = msgspec.json.decode(path.read_bytes())
    if isinstance(data, dict) and {"definition", "assignment"} <= data.keys():
        return {"parts": {}, "program": data, "values": Program.from_dict(data).by_place()}
    if not isinstance(data, dict) or not {"format", "parts", "program"} <= data.keys():
        hint = (
            " It looks like a state of dspy: use from_dspy_state, or `dspex import`."
            if isinstance(data, dict) and "metadata" in data
            else ""
        )
        raise DefinitionError(
            f"{str(path)!r} holds neither a program nor a state that dspex saved.{hint}"
        )
    if data["format"] != FORMAT:
        raise DefinitionError(
            f"{str(path)!r} has format {data['format']!r}; this dspex reads {FORMAT}: update dspex"
        )
    return {**data, "values": {}}
