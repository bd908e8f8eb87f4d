"""A conversation: the turns so far, which fill an input of the type `History`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from dspex.arguments import checks_names
from dspex.clock import Clock, SystemClock
from dspex.errors import DefinitionError
from dspex.language.signatures.content import History, Turn

_CLOCK = SystemClock()


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The turns of one conversation; immutable, so `append` and `compact` return another session.

    `turns` are pairs of inputs and outputs by field name, oldest first, and `summary` stands for
    what came before them. After `ttl` seconds without a turn the session is empty.
    """

    turns: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]] = ()
    summary: str = ""
    ttl: float | None = None
    updated_at: datetime | None = None
    clock: Clock = field(default=_CLOCK, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the time to live.

        Raises:
            DefinitionError: it is not above 0.
        """
        if self.ttl is not None and not self.ttl > 0:
            raise DefinitionError(f"`ttl` of a Session is above 0 seconds, not {self.ttl!r}")

    @property
    def is_expired(self) -> bool:
        """Whether the last turn is more than `ttl` seconds ago."""
        if self.ttl is None or self.updated_at is None:
            return False
        return self.clock.now() - self.updated_at > timedelta(seconds=self.ttl)

    @property
    def history(self) -> History:
        """The conversation as the value of an input; empty if it has expired."""
        if self.is_expired:
            return History()
        return history_of(self.turns, self.summary)

    def append(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> "Session":
        """Return the session with one more turn; an expired session starts over."""
        before = replace(self, turns=(), summary="") if self.is_expired else self
        inputs = {name: value for name, value in inputs.items() if not isinstance(value, History)}
        turns = (*before.turns, (inputs, dict(outputs)))
        return replace(before, turns=turns, updated_at=self.clock.now())

    def compact(self, *, keep: int, summary: str = "") -> "Session":
        """Return the session with its newest `keep` turns, and a summary of all earlier ones.

        Raises:
            DefinitionError: `keep` is not a whole number from 0.
        """
        if not isinstance(keep, int) or isinstance(keep, bool) or keep < 0:
            raise DefinitionError(f"`keep` is a whole number from 0, not {keep!r}")
        turns = self.turns[max(0, len(self.turns) - keep) :]
        return replace(self, turns=tuple(turns), summary=summary or self.summary)


def history_of(
    turns: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], summary: str = ""
) -> History:
    """Return turns as the value of an input; a summary is a turn of the system before them."""
    messages = [Turn("system", f"Earlier in this conversation: {summary}")] if summary else []
    for inputs, outputs in turns:
        messages += [Turn("user", dict(inputs)), Turn("assistant", dict(outputs))]
    return History(messages)
