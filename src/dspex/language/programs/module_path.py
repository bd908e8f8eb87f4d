"""The place of a module in a program."""

from dataclasses import dataclass

_ROOT_NAME = "self"


@dataclass(frozen=True, slots=True)
class ModulePath:
    """The place of a module in a program, such as `answer` or `steps[0]`.

    As a text, it is `steps[0]`, and `self` for the root. The places of a module's slots are
    `steps[0].demos` and `self.demos`.
    """

    steps: str = ""

    @classmethod
    def of(cls, text: str) -> "ModulePath":
        """Return the path of a text; the root is "self"."""
        return ROOT if text in {"", _ROOT_NAME} else cls(text)

    def __str__(self) -> str:
        return self.steps or _ROOT_NAME

    @property
    def is_root(self) -> bool:
        """Whether this is the whole program."""
        return not self.steps

    def child(self, name: str) -> "ModulePath":
        """Return the path of a part of this module, such as `answer` or `steps[0]`."""
        return ModulePath(f"{self.steps}.{name}" if self.steps else name)

    def join(self, inner: "ModulePath") -> "ModulePath":
        """Return the path of a module that is at `inner` in this module."""
        return self.child(inner.steps) if inner.steps else self

    def place(self, slot: str) -> str:
        """Return the place of a slot of this module."""
        return f"{self}.{slot}"

    def contains(self, place: str) -> bool:
        """Return whether `place` is a slot of this module, or inside one of its parts."""
        return place.startswith(f"{self}.")

    def slot_of(self, place: str) -> str:
        """Return what follows this path in `place`, which it contains."""
        return place.removeprefix(f"{self}.")


ROOT = ModulePath()
