"""Modules that users wrote, as data: where their code is, what it was made with, and a hash of its source."""

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from dspex.errors import ConflictError, DefinitionError, DspexError, boundary, place_of, suggest
from dspex.execution.modules.source import digest, file_hash, local_modules, module_hash, source_hash, watch
from dspex.language.signatures import FieldCheck, Signature


@dataclass(frozen=True, slots=True)
class CodeRoot:
    """The folder that modules which users wrote are imported from; `name` is what jobs call it."""

    folder: Path
    name: str = "default"

    def load(self, target: str) -> Any:  # noqa: ANN401  # whatever the target names
        """Return the object behind "pkg.mod:name" in this folder.

        Raises:
            DefinitionError: no such module or name, or the file lies outside the folder.
        """
        module_name, _, name = target.partition(":")
        if not module_name or not name:
            raise DefinitionError(f"a code target looks like 'pkg.mod:name', not {target!r}")
        if str(self.folder) not in sys.path:
            sys.path.insert(0, str(self.folder))
        with watch(self.folder).lock:
            if module_name not in sys.modules:  # what lies elsewhere is not even imported: that may do anything
                with boundary(DefinitionError, f"cannot import {module_name!r} from the code root"):
                    spec = importlib.util.find_spec(module_name.partition(".")[0])
                self._check_place(target, [] if spec is None else _locations(spec))
            module = self._import(module_name)
        self._check_place(target, [getattr(module, "__file__", None)])
        try:
            return reduce(getattr, name.split("."), module)
        except AttributeError:
            hint = suggest(name, [public for public in vars(module) if not public.startswith("_")])
            raise DefinitionError(f"module {module_name!r} has no {name!r}.{hint}") from None

    def _import(self, name: str, why: str = "") -> ModuleType:
        failure = f"cannot import {name!r} from the code root{why}"
        try:
            with boundary(DefinitionError, failure):
                return importlib.import_module(name)
        except DspexError as error:  # a declaration in the user's file that is wrong: which line it is in
            place = place_of(error)
            if not place or place in error.message:
                raise
            raise type(error)(f"{error.message} ({place})", **error.context) from error
        except SystemExit as error:
            raise DefinitionError(
                f'{failure}: it asked to end the process: SystemExit({error.code!r}); use `if __name__ == "__main__":`'
            ) from error

    def update(self, sources: Mapping[str, str]) -> None:
        """Import the user's modules anew where one was edited since: its file, not its loaded code, is what is wanted.

        The modules of this folder are imported beside the loaded ones: programs that were built from those keep them.
        Modules that this class did not import are left alone.

        Args:
            sources: the hash of the source that is wanted, by module name.

        Raises:
            DefinitionError: the edited code cannot be imported; what was loaded stays in use.
        """
        with watch(self.folder).lock:
            stale = [name for name, expected in sources.items() if self._is_stale(name, expected)]
            if not stale:
                return
            loaded = dict(local_modules(self.folder))
            for name in loaded:
                sys.modules.pop(name, None)
            importlib.invalidate_caches()
            try:
                for name in stale:
                    self._import(name, " anew beside the code that is loaded; restart this process")
            except BaseException:
                for name in dict(local_modules(self.folder)):
                    sys.modules.pop(name, None)
                sys.modules.update(loaded)
                raise

    def _is_stale(self, name: str, expected: str) -> bool:
        """Return whether a module was loaded from another text than the one wanted, which its file has now."""
        loaded = module_hash(name)
        if loaded is None or loaded == expected:
            return False
        with contextlib.suppress(OSError):
            return digest(Path(sys.modules[name].__file__ or "").read_bytes()) == expected
        return False

    def _check_place(self, target: str, places: Sequence[str | None]) -> None:
        """Refuse a target in none of whose places this folder is; without places, there is no such module."""
        root = self.folder.resolve()
        if places and not any(place and Path(place).resolve().is_relative_to(root) for place in places):
            raise DefinitionError(
                f"{target!r} lies outside the code root, the folder that dspex was started in: it is "
                f"{Path(places[0]).name if places[0] else 'a part of Python'!r}"
            )


def _locations(spec: ModuleSpec) -> list[str | None]:
    return [spec.origin if spec.has_location else None, *(spec.submodule_search_locations or ())]


def code_config(
    code: type | Callable[..., Any], init: Mapping[str, Any], *, source: str | None = None
) -> dict[str, Any]:
    """Return target, constructor arguments and source hash of a class or function, for a stored program.

    Args:
        code: the class or function.
        init: its constructor arguments.
        source: the hash of the text that it was compiled from, where that is known.

    Raises:
        DefinitionError: the code cannot be found by import.
    """
    if "<locals>" in code.__qualname__ or code.__module__ == "__main__":
        raise DefinitionError(
            f"{code.__qualname__} cannot be found by import; define it at the top of a module file to store "
            "programs of it"
        )
    return {
        "target": f"{code.__module__}:{code.__qualname__}",
        "init": init,
        "source_hash": source or source_hash(code),
    }


def function_config(function: Callable[..., Any], what: str) -> dict[str, Any]:
    """Return target and source hash of a function that belongs to a stored program.

    Raises:
        DefinitionError: it cannot be found by import; the message begins with `what`.
    """
    try:
        config = code_config(function, {})
    except DefinitionError as error:
        raise DefinitionError(f"{what} cannot be stored: {error.message}") from None
    except (AttributeError, TypeError):  # a built-in function, an object that can be called
        raise DefinitionError(f"{what} cannot be stored: {function!r} is no function with a source file") from None
    return {"target": config["target"], "source_hash": config["source_hash"]}


def checks_config(signature: Signature) -> dict[str, Any]:
    """Return the source hashes of the checks of a signature, for a stored program; nothing where it has none.

    Raises:
        DefinitionError: a check cannot be found by import; the message names it and its field.
    """
    hashes = {}
    for name, check in signature.output_checks:
        config = function_config(_load_check(check, None, name), f"the check of {name!r}")
        hashes[check.target] = config["source_hash"]
    return {"checks": hashes} if hashes else {}


def with_code(signature: Signature, code: CodeRoot | None = None, hashes: Mapping[str, str] | None = None) -> Signature:
    """Return a signature whose checks can be run, those that were read from data loaded from `code`.

    Raises:
        DefinitionError: there are such, and no `code`, or they are not there.
        ConflictError: the source of a check is not what `hashes` say.
    """
    if all(check.function is not None for _, check in signature.output_checks):
        return signature
    fields = []
    for name, field in signature.fields.items():
        checks = [replace(check, function=_load_check(check, code, name)) for check in field.checks]
        for check in checks:
            if check.function is not None and hashes is not None:
                check_source(check.function, {"target": check.target, "source_hash": hashes.get(check.target)})
        fields.append(replace(field, checks=tuple(checks)))
    return Signature.from_fields(signature.name, fields, signature.instructions)


def _load_check(check: FieldCheck, code: CodeRoot | None, field: str) -> Callable[..., Any]:
    if check.function is not None:
        return check.function
    if code is None:
        raise DefinitionError(
            f"the check {check.target!r} of {field!r} is code, and code is not loaded here: build the program in the "
            "folder that holds it"
        )
    function: Callable[..., Any] = code.load(check.target)
    return function


def constructor_arguments(instance: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `made` was constructed with, by parameter name, as JSON values.

    Raises:
        DefinitionError: an argument is no JSON value; the message names it.
    """
    cls = type(instance)
    bound = inspect.signature(cls.__init__).bind(instance, *args, **kwargs)
    return {name: _json_argument(cls, name, value) for name, value in list(bound.arguments.items())[1:]}


def _json_argument(cls: type, name: str, value: object) -> object:
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError) as error:
        raise DefinitionError(
            f"the constructor argument {name!r} of {cls.__name__} is no JSON value ({type(value).__name__}), "
            "so a stored program could not be rebuilt; pass names or settings instead"
        ) from error


def check_source(code: type | Callable[..., Any], config: Mapping[str, Any], *, source: str | None = None) -> None:
    """Refuse code that is not what was stored; `source` is the hash of what it was compiled from, where it is known.

    Raises:
        ConflictError: it was compiled from another text.
    """
    expected = config.get("source_hash")
    if (source or source_hash(code)) == expected:
        return
    if file_hash(code) == expected:
        raise ConflictError(
            f"this process loaded {config['target']!r} before its file was edited, and the program was stored from "
            "the edited file; restart this process"
        )
    raise ConflictError(f"the code of {config['target']!r} has changed since the program was stored; store it again")
