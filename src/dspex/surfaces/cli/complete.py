"""What a shell completes: targets, names of stored rows, and actions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dspex.errors import DspexError
from dspex.operations.framework.resource import Resource
from dspex.surfaces.cli.references import has_names
from dspex.surfaces.cli.targets import code_root, names_in

Complete = Callable[[click.Context, click.Parameter, str], list[str]]
_MOST = 50


def complete_target(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    """Return the files, the names in a file after `file.py:`, and the stored programs."""
    place, colon, start = text.rpartition(":")
    if colon:
        return [f"{place}:{name}" for name in names_in(Path(place)) if name.startswith(start)]
    folder = Path(text).parent if text else Path()
    files = [path for path in folder.glob("*") if path.suffix in {".py", ".json"} or path.is_dir()]
    paths = [f"{path}/" if path.is_dir() else str(path) for path in files if path.name[:1] != "."]
    from dspex.operations.programs.records import PROGRAM

    return [path for path in sorted(paths) if path.startswith(text)] + _stored(PROGRAM, text)


def complete_action(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    """Return the names of the actions, also those that the settings add."""
    from dspex.bootstrap import domain_of
    from dspex.surfaces.cli.options import settings_of

    try:
        names = [action.name for action in domain_of(settings_of(), code_root()).actions]
    except DspexError:
        return []
    return [name for name in names if name.startswith(text)]


def complete_row(resource: Resource[Any] | None) -> Complete | None:
    """Return what completes the names of stored rows, None for a resource without names."""
    if resource is None or not has_names(resource):
        return None
    return lambda _context, _parameter, text: _stored(resource, text)


def _stored(resource: Resource[Any], text: str) -> list[str]:
    """Return names of stored rows; a shell gets none where they cannot be read."""
    from dspex.operations.framework.store import Query
    from dspex.surfaces.cli.rows import select_rows, stored_rows

    try:
        rows, _ = stored_rows(resource, Query(limit=_MOST), select_rows, state_dir=None)
    except DspexError:
        return []
    return sorted({row.name for row in rows if row.name.startswith(text)})
