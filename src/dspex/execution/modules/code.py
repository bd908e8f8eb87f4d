"""User-written modules as data: import path, constructor arguments and source hash."""

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

from dspex.error_text import place_of, suggest
from dspex.errors import ConflictError, DefinitionError, DspexError, boundary
from dspex.execution.modules.source import (
    digest,
    file_hash,
    local_modules,
    module_hash,
    source_hash,
    watch,
)
from dspex.language.signatures import FieldCheck, Signature


@dataclass(frozen=True, slots=True)
class CodeRoot:
    """The folder to import user-written modules from; jobs refer to it by `name`."""

    folder: Path
    name: str = "default"

    def load(self, target: str) -> Any:
        """Return the object "pkg.mod:name" in this folder.

        Raises:
            DefinitionError: the module or name does not exist, or its file is outside the folder.
        """
        module_name, _, name = target.partition(":")
        if not module_name or not name:
            raise DefinitionError(f"a code target looks like 'pkg.mod:name', not {target!r}")
        if str(self.folder) not in sys.path:
            sys.path.insert(0, str(self.folder))
        with watch(self.folder).lock:
            # code outside the folder is not even imported: an import can do anything
            if module_name not in sys.modules:
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
        except DspexError as error:  # a wrong declaration in the user's file: add its line
            place = place_of(error)
            if not place or place in error.message:
                raise
            raise error.with_message(f"{error.message} ({place})") from error
        except SystemExit as error:
            raise DefinitionError(
                f"{failure}: it asked to end the process: SystemExit({error.code!r}); use `if "
                '__name__ == "__main__":`'
            ) from error

    def update(self, sources: Mapping[str, str]) -> None:
        """Import modules of this folder again if their files were edited after the import.

        Programs built from the modules imported before keep them. Modules that this class did not
        import are not touched.

        Args:
            sources: the expected source hashes by module name.

        Raises:
            DefinitionError: the edited code cannot be imported; the loaded code stays in use.
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
                    self._import(name, " again beside the loaded code; restart this process")
            except BaseException:
                for name in dict(local_modules(self.folder)):
                    sys.modules.pop(name, None)
                sys.modules.update(loaded)
                raise

    def _is_stale(self, name: str, expected: str) -> bool:
        """Return whether only the file of a module, not the loaded code, has the expected hash."""
        loaded = module_hash(name)
        if loaded is None or loaded == expected:
            return False
        with contextlib.suppress(OSError):
            return digest(Path(sys.modules[name].__file__ or "").read_bytes()) == expected
        return False

    def _check_place(self, target: str, places: Sequence[str | None]) -> None:
        """Raise unless one of `places` is in this folder; pass if there are none."""
        root = self.folder.resolve()
        if places and not any(
            place and Path(place).resolve().is_relative_to(root) for place in places
        ):
            raise DefinitionError(
                f"{target!r} lies outside the code root, the folder that dspex was started in: it "
                f"is {Path(places[0]).name if places[0] else 'a part of Python'!r}"
            )


def _locations(spec: ModuleSpec) -> list[str | None]:
    return [spec.origin if spec.has_location else None, *(spec.submodule_search_locations or ())]


def code_config(
    code: type | Callable[..., Any], init: Mapping[str, Any], *, source: str | None = None
) -> dict[str, Any]:
    """Return target, constructor arguments and source hash of a class or function, for storage.

    Args:
        code: the class or function.
        init: its constructor arguments.
        source: the hash of the source that it was compiled from, if known.

    Raises:
        DefinitionError: the code cannot be found by import.
    """
    if code.__module__ == "__main__":
        raise DefinitionError(
            f"{code.__qualname__} cannot be found by import, because the running script defines "
            "it; to store programs of it, as `dspex.open` does, move it to another file, such as "
            f"programs.py, and write `from programs import {code.__qualname__.partition('.')[0]}`"
        )
    if "<locals>" in code.__qualname__:
        raise DefinitionError(
            f"{code.__qualname__} cannot be found by import; define it at the top of a module "
            "file to store programs of it"
        )
    return {
        "target": f"{code.__module__}:{code.__qualname__}",
        "init": init,
        "source_hash": source or source_hash(code),
    }


def function_config(function: Callable[..., Any], what: str) -> dict[str, Any]:
    """Return target and source hash of a function that belongs to a stored program.

    Raises:
        DefinitionError: it cannot be found by import; the message starts with `what`.
    """
    if getattr(function, "__name__", "") == "<lambda>":
        raise DefinitionError(
            f"{what} cannot be stored: it is a lambda; define a function with `def` at the top of "
            "its module"
        )
    try:
        config = code_config(function, {})
    except DefinitionError as error:
        raise DefinitionError(f"{what} cannot be stored: {error.message}") from None
    except (AttributeError, TypeError):  # a built-in function, an object that can be called
        raise DefinitionError(
            f"{what} cannot be stored: {function!r} is not a function with a source file"
        ) from None
    return {"target": config["target"], "source_hash": config["source_hash"]}


def load_function(config: Mapping[str, Any], code: CodeRoot | None, what: str) -> Any:
    """Return the function behind the result of `function_config`.

    Raises:
        DefinitionError: `code` is missing, or does not have it; the message starts with `what`.
        ConflictError: its source has changed.
    """
    target = config["target"]
    if code is None:
        raise DefinitionError(f"{what} is code ({target}), and code is not loaded here")
    try:
        function = code.load(target)
    except DefinitionError as error:
        raise error.with_message(f"{what} cannot be loaded: {error.message}") from error
    check_source(function, config)
    return function


def checks_config(signature: Signature) -> dict[str, Any]:
    """Return the source hashes of the checks of a signature, for storage; empty without checks.

    Raises:
        DefinitionError: a check cannot be found by import; the message names it and its field.
    """
    hashes = {}
    for name, check in signature.output_checks:
        config = function_config(_load_check(check, None, name), f"the check of {name!r}")
        hashes[check.target] = config["source_hash"]
    return {"checks": hashes} if hashes else {}


def with_code(
    signature: Signature, code: CodeRoot | None = None, hashes: Mapping[str, str] | None = None
) -> Signature:
    """Return a signature whose checks can run; checks read from data are loaded from `code`.

    Raises:
        DefinitionError: a check must be loaded but `code` is missing or does not have it.
        ConflictError: the source hash of a check differs from `hashes`.
    """
    if all(check.function is not None for _, check in signature.output_checks):
        return signature
    fields = []
    for name, field in signature.fields.items():
        checks = [replace(check, function=_load_check(check, code, name)) for check in field.checks]
        for check in checks:
            if check.function is not None and hashes is not None:
                check_source(
                    check.function,
                    {"target": check.target, "source_hash": hashes.get(check.target)},
                )
        fields.append(replace(field, checks=tuple(checks)))
    return Signature.from_fields(signature.name, fields, signature.instructions)


def _load_check(check: FieldCheck, code: CodeRoot | None, field: str) -> Callable[..., Any]:
    if check.function is not None:
        return check.function
    if code is None:
        raise DefinitionError(
            f"the check {check.target!r} of {field!r} is code, and code is not loaded here: build "
            "the program in the folder that holds it"
        )
    function: Callable[..., Any] = code.load(check.target)
    return function


def constructor_arguments(
    instance: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the constructor arguments of `instance` by parameter name, as JSON values.

    Raises:
        DefinitionError: an argument is not a JSON value; the message names it.
    """
    cls = type(instance)
    bound = inspect.signature(cls.__init__).bind(instance, *args, **kwargs)
    return {
        name: _json_argument(cls, name, value) for name, value in list(bound.arguments.items())[1:]
    }


def _json_argument(cls: type, name: str, value: object) -> object:
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError) as error:
        raise DefinitionError(
            f"the constructor argument {name!r} of {cls.__name__} is not a JSON value "
            f"({type(value).__name__}), "
            "so a stored program could not be rebuilt; pass names or settings instead"
        ) from error


def check_source(
    code: type | Callable[..., Any], config: Mapping[str, Any], *, source: str | None = None
) -> None:
    """Raise unless the code is what was stored; `source` is the hash of its source, if known.

    Raises:
        ConflictError: the code was compiled from a different source.
    """
    expected = config.get("source_hash")
    if (source or source_hash(code)) == expected:
        return
    if file_hash(code) == expected:
        raise ConflictError(
            f"this process loaded {config['target']!r} before its file was edited, and the program "
            "was stored from the edited file; restart this process"
        )
    raise ConflictError(
        f"the code of {config['target']!r} has changed since the program was stored; store it again"
    )
