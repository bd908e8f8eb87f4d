"""One run of a team: its limits, the turns of its members, and what would be a repetition."""

import hashlib
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from dspex.arguments import checks_names
from dspex.error_text import quantity
from dspex.errors import BudgetError, DefinitionError, DspexError, RepetitionError
from dspex.execution.clients.budget import Budget
from dspex.language.records import Prediction
from dspex.language.records.canonical import json_bytes

CallMember = Callable[[str, Mapping[str, Any]], Awaitable[Prediction]]
TOOL_REPEATS = 3  # equal results of equal calls of a tool, with nothing new in between


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class TeamLimits:
    """The most that one run of a team may use; None means unlimited.

    Members inherit them: what a team inside another one does counts for both, and so do members in
    workers and on dspy. A limit that is reached raises `BudgetError`, whose context names it.

    Args:
        turns: calls of members.
        depth: teams inside one another; 1 allows no team as a member.
        calls: calls of models.
        tokens: tokens of all calls of models.
        usd: dollars of all calls of models.
        seconds: the time of the run.
    """

    turns: int | None = 50
    depth: int | None = 5
    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Check that every limit is a positive number.

        Raises:
            DefinitionError: one is not.
        """
        for name, limit in self.to_dict().items():
            whole = name not in {"usd", "seconds"}
            fits = isinstance(limit, int if whole else int | float) and not isinstance(limit, bool)
            if not fits or limit <= 0:
                raise DefinitionError(
                    f"the limit {name!r} of a team must be a {'whole ' if whole else ''}number "
                    f"above 0, not {limit!r}"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the limits that are set."""
        return {name: limit for name, limit in asdict(self).items() if limit is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TeamLimits":
        """Return the limits in `data`; those that are absent are unlimited.

        Raises:
            DefinitionError: there is no such limit.
        """
        names = [field.name for field in fields(cls)]
        if unknown := [name for name in data if name not in names]:
            raise DefinitionError(
                f"a team has no limit {unknown[0]!r}; its limits are: {', '.join(names)}"
            )
        return cls(**{name: data.get(name) for name in names})

    def budget(self) -> Budget | None:
        """Return a budget of calls, tokens and dollars, None if they are unlimited."""
        if self.calls is None and self.tokens is None and self.usd is None:
            return None
        return Budget(calls=self.calls, tokens=self.tokens, usd=self.usd)


class TeamRun:
    """The state of one run of a team, which its members reach through the frame of their calls.

    `route` lists the members in the order of their calls, `answers` has the last answer of each. A
    call is a repetition if the same member got the same inputs before, and no member has given a
    new answer since. `failure` is an error that ends the run even if a tool turned it into an
    observation; agents check it before each turn.
    """

    def __init__(
        self,
        limits: TeamLimits,
        outer: "TeamRun | None" = None,
        *,
        repeats: int = 0,
        call: CallMember | None = None,
    ) -> None:
        """Begin; `outer` is the run of the team around this one.

        Args:
            limits: the limits of this team.
            outer: the run whose limits apply, too.
            repeats: how many repetitions are only reported to the caller, before one ends the run.
            call: calls a member by name, for tools that do so.

        Raises:
            BudgetError: teams are nested too deeply.
        """
        self.limits = limits
        self.budget = limits.budget()
        self.outer = outer
        self.call = call
        self.turns = 0
        self.depth: int = 1 if outer is None else outer.depth + 1
        self.route: list[str] = []
        self.answers: dict[str, Prediction] = {}
        self.failure: DspexError | None = None
        self._repeats = repeats
        self._lock = threading.Lock()
        self._members, self._tools = _Results(), _Results()
        for run in self.runs():
            if run.limits.depth is not None and self.depth - run.depth >= run.limits.depth:
                raise BudgetError(
                    f"teams are nested more than {run.limits.depth} deep", limit="depth"
                )

    def runs(self) -> "list[TeamRun]":
        """Return this run and those around it, the outermost last."""
        return [self, *([] if self.outer is None else self.outer.runs())]

    def begin_turn(self, member: str, inputs: Mapping[str, Any], mark: str = "") -> bytes:
        """Count the call of a member, here and in the teams around; return its key for `end_turn`.

        Calls with different marks are never repetitions of each other.

        Raises:
            BudgetError: a limit on turns is reached.
            RepetitionError: the call is a repetition.
        """
        self.check()
        key = _digest(f"{member} {mark}", inputs)
        with self._lock:
            is_repetition = self._members.is_repetition(key)
        if is_repetition:
            error = RepetitionError(
                f"{member!r} was called again with the same inputs, and nothing has changed since: "
                "use its answer, or call it with other inputs",
                member=member,
            )
            self._repeats -= 1
            if self._repeats < 0:
                self.failure = error
            raise error
        for run in self.runs():
            run.count_turn()
        with self._lock:
            self.route.append(member)
        return key

    def count_turn(self) -> None:
        """Count the call of a member of this team, or of a team inside it.

        Raises:
            BudgetError: the limit on turns is reached.
        """
        with self._lock:
            if self.limits.turns is not None and self.turns >= self.limits.turns:
                self.failure = BudgetError(
                    f"the team has had its {quantity(self.limits.turns, 'turn')} without an answer",
                    limit="turns",
                )
                raise self.failure
            self.turns += 1

    def end_turn(self, member: str, key: bytes, answer: Prediction) -> None:
        """Record the answer of a member."""
        with self._lock:
            self.answers[member] = answer
            self._members.record(key, _digest(member, answer))

    def end_tool(self, tool: str, arguments: Mapping[str, Any], observation: str) -> None:
        """Record the result of a tool; equal results of equal calls in a row end the run."""
        key = _digest(tool, arguments)
        with self._lock:
            repeats = self._tools.record(key, _digest(tool, observation))
        if repeats >= TOOL_REPEATS:
            self.failure = RepetitionError(
                f"the tool {tool!r} was called {TOOL_REPEATS} times with the same arguments and "
                "the same result",
                tool=tool,
            )

    def check(self) -> None:
        """Raise the failure that ends this run or one around it, if there is one."""
        for run in self.runs():
            if run.failure is not None:
                raise run.failure

    def remaining(self) -> TeamLimits:
        """Return the depth that a member has, to be enforced in its process.

        Turns are counted here, see `count_turn`.
        """
        depths = [
            run.limits.depth - (self.depth - run.depth)
            for run in self.runs()
            if run.limits.depth is not None
        ]
        return TeamLimits(turns=None, depth=min(depths, default=None))


class _Results:
    """The different results so far, and how many there were after the last call with each key."""

    def __init__(self) -> None:
        self._results: set[bytes] = set()
        self._last: dict[bytes, int] = {}
        self._repeats: dict[bytes, int] = {}

    def is_repetition(self, key: bytes) -> bool:
        """Return whether this call was made before, and nothing new came since."""
        return self._last.get(key) == len(self._results)

    def record(self, key: bytes, result: bytes) -> int:
        """Record a result; return how often in a row the call has had it, with nothing new."""
        was_called = self.is_repetition(key)
        self._results.add(key + result)
        is_same = was_called and self.is_repetition(key)
        self._repeats[key] = self._repeats[key] + 1 if is_same else 1
        self._last[key] = len(self._results)
        return self._repeats[key]


def _digest(name: str, value: object) -> bytes:
    values = dict(value) if isinstance(value, Mapping) else value
    data = json_bytes([name, values], unknown=_jsonable)
    return hashlib.blake2b(data, digest_size=16).digest()


def _jsonable(value: object) -> object:
    from pydantic_core import to_jsonable_python

    return dict(value) if isinstance(value, Mapping) else to_jsonable_python(value, fallback=str)
