"""Descriptors that make the members of `Signature` work on signature classes too."""

from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from dspex.errors import SignatureError

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class SignatureMethod(Generic[P, R]):
    """Makes an instance method work on signature classes too: `QA.with_instructions("...")`."""

    def __init__(self, function: Callable[Concatenate[Any, P], R]) -> None:
        """Wrap `function`."""
        self.function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: object | None, owner: type) -> Callable[P, R]:
        value = instance if instance is not None else declared_signature(owner)
        return self.function.__get__(value, type(value))  # type: ignore[no-any-return]


class SignatureProperty(Generic[R]):
    """A cached property of instances and classes, such as `QA.input_fields`."""

    def __init__(self, function: Callable[[Any], R]) -> None:
        """Wrap `function`, which computes the value."""
        self.function = function
        self.name = function.__name__
        self.__doc__ = function.__doc__

    def __get__(self, instance: object | None, owner: type) -> R:
        value = (
            instance
            if instance is not None
            else owner.__dict__.get("__signature_value__") or declared_signature(owner)
        )
        try:
            return value.__dict__[self.name]  # type: ignore[no-any-return]
        except KeyError:
            result: R = value.__dict__.setdefault(self.name, self.function(value))
            return result


def declared_signature(owner: type[S]) -> S:
    """Return the signature that the body of a subclass declares.

    Raises:
        SignatureError: `owner` is `Signature` itself.
    """
    value: S | None = owner.__dict__.get("__signature_value__")
    if value is None:
        raise SignatureError(
            "Signature itself has no fields: subclass it, or write Signature('question -> answer')"
        )
    return value
