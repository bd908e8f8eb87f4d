"""The public rooms: every name has one meaning, and no parameter hides behind `**kwargs`."""

import inspect
import typing
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

import dspex

ROOMS: dict[str, ModuleType] = {
    name: import_module(name) for name in ("dspex", *(f"dspex.{room}" for room in dspex.ROOMS))
}
# names that come from the user (inputs, fields, columns, details of an error) or the field's type
OPEN = {"inputs", "fields", "values", "context", "constraints"}


def public_objects() -> Iterator[tuple[str, Any]]:
    for room, module in ROOMS.items():
        for name in module.__all__:
            yield f"{room}.{name}", getattr(module, name)


def callables(name: str, value: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield a function, or the constructor and the public methods of a class."""
    if not isinstance(value, type):
        if inspect.isroutine(value):
            yield name, value
        return
    for owner in value.__mro__:
        for key, member in vars(owner).items():
            function = getattr(member, "__func__", member)
            is_public = key == "__init__" or key[0] != "_"
            if inspect.isfunction(function) and is_public and _is_ours(function):
                yield f"{name}.{key}", function


def _is_ours(function: Callable[..., Any]) -> bool:
    return function.__module__.startswith("dspex.")


@pytest.mark.parametrize("room", ROOMS)
def test_room_lists_its_names_and_describes_itself(room: str) -> None:
    module = ROOMS[room]
    assert module.__doc__
    assert set(module.__all__) <= set(dir(module))
    assert len(set(module.__all__)) == len(module.__all__)


def test_no_two_public_things_share_a_name() -> None:
    meanings: dict[str, list[tuple[str, Any]]] = {}
    for place, value in public_objects():
        same = meanings.setdefault(place.rpartition(".")[2], [])
        if not any(value is thing for _, thing in same):
            same.append((place, value))
    assert {name: same for name, same in meanings.items() if len(same) > 1} == {}


def test_a_public_class_or_function_has_its_own_name() -> None:
    """A thing shown in errors by another name than the one that users write."""
    for place, value in public_objects():
        if isinstance(value, type) or inspect.isfunction(value):
            assert value.__name__ == place.rpartition(".")[2], place


def test_public_parameters_are_spelled_out_and_typed() -> None:
    for place, value in public_objects():
        for name, function in callables(place, value):
            for parameter in list(inspect.signature(function).parameters.values()):
                if parameter.kind is parameter.VAR_KEYWORD and parameter.name not in OPEN:
                    unpacked = typing.get_origin(parameter.annotation) is typing.Unpack
                    assert unpacked, f"{name} takes **{parameter.name}"
                assert parameter.name in {"self", "cls"} or (
                    parameter.annotation is not parameter.empty
                ), f"{name}: {parameter.name} has no type"
