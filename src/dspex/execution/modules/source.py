"""Hashes of the source from which user code was compiled.

A file may be edited while a process runs. Stored programs depend on the source that was compiled,
not on the file as it is later. Python's bytecode cache is bypassed, because it compares file times
in whole seconds.
"""

import hashlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from dspex.errors import DefinitionError, boundary

_INSTALLED = frozenset({"site-packages", "dist-packages"})


class HashedLoader(SourceFileLoader):
    """Compiles the current source of a file and records its hash."""

    source_hash: str | None = None

    def get_code(self, fullname: str) -> CodeType | None:
        """Read, hash and compile the file."""
        path = self.get_filename(fullname)
        text = self.get_data(path)
        self.source_hash = digest(text)
        code: CodeType = self.source_to_code(text, path)
        return code


class CodeFinder:
    """Finds modules like `PathFinder`, and loads files of code roots with a `HashedLoader`.

    A process has at most one, in `sys.meta_path`.
    """

    def __init__(self) -> None:
        """Start without folders."""
        self.folders: list[Path] = []
        self.lock = threading.RLock()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module; see `importlib.abc.MetaPathFinder.find_spec`."""
        spec = PathFinder.find_spec(fullname, path, target)
        if (
            spec is not None
            and type(spec.loader) is SourceFileLoader
            and any(is_below(spec.loader.path, folder) for folder in self.folders)
        ):
            spec.loader = HashedLoader(spec.loader.name, spec.loader.path)
        return spec


def is_below(path: str, folder: Path) -> bool:
    """Return whether a file is in this folder and not part of a package installed there."""
    file = Path(path).resolve()
    return file.is_relative_to(folder) and not _INSTALLED & {*file.relative_to(folder).parts}


def watch(folder: Path) -> CodeFinder:
    """Load modules of this folder with a `HashedLoader` from now on; return the finder."""
    finder = next((finder for finder in sys.meta_path if isinstance(finder, CodeFinder)), None)
    if finder is None:
        finder = CodeFinder()
        place = (
            sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else len(sys.meta_path)
        )
        sys.meta_path.insert(place, finder)
    if folder.resolve() not in finder.folders:
        finder.folders.append(folder.resolve())
    return finder


def digest(text: bytes) -> str:
    """Return BLAKE2b-256 of a source text."""
    return hashlib.blake2b(text, digest_size=32).hexdigest()


def loaded_hash(loader: object) -> str | None:
    """Return the hash of the source that a `HashedLoader` compiled; None for other loaders."""
    return loader.source_hash if isinstance(loader, HashedLoader) else None


def hash_at_definition(code: type | Callable[..., Any]) -> str | None:
    """Return the source hash of a class or function during its definition; None without a file.

    For a module with another loader, its current file is hashed.
    """
    module = sys.modules.get(code.__module__)
    if module is None:
        return None
    if (compiled := _compiled_hash(module)) is not None:
        return compiled
    file = getattr(module, "__file__", None)  # notebooks and `python -c` have none
    try:
        return None if file is None else digest(Path(file).read_bytes())
    except OSError:
        return None


def module_hash(name: str) -> str | None:
    """Return the hash of the source of the loaded module `name`; None if it is not known."""
    module = sys.modules.get(name)
    return None if module is None else _compiled_hash(module)


def _compiled_hash(module: ModuleType) -> str | None:
    return None if module.__spec__ is None else loaded_hash(module.__spec__.loader)


def source_hash(code: type | Callable[..., Any]) -> str:
    """Return the hash of the source that a class or function was compiled from.

    If another loader imported it, its current file is hashed.

    Raises:
        DefinitionError: it has no source file.
    """
    loader = code.__globals__.get("__loader__") if inspect.isfunction(code) else None
    return loaded_hash(loader) or file_hash(code)


def file_hash(code: type | Callable[..., Any]) -> str:
    """Return the hash of the current source file of a class or function.

    Raises:
        DefinitionError: it has no source file, or the file cannot be read.
    """
    file = inspect.getsourcefile(code)
    if file is None:
        raise DefinitionError(f"{code.__qualname__} has no source file")
    with boundary(DefinitionError, f"cannot read the source of {code.__qualname__}"):
        return digest(Path(file).read_bytes())


def local_modules(folder: Path) -> Iterator[tuple[str, ModuleType]]:
    """Yield (name, module) for modules that a `HashedLoader` loaded from this folder.

    Its namespace packages are included.
    """
    root = folder.resolve()
    for name, module in list(sys.modules.items()):
        spec = module.__spec__ if isinstance(module, ModuleType) else None
        if spec is None:
            continue
        is_ours = isinstance(spec.loader, HashedLoader) and is_below(spec.loader.path, root)
        folders = () if spec.has_location else tuple(spec.submodule_search_locations or ())
        if is_ours or any(is_below(place, root) for place in folders):
            yield name, module
