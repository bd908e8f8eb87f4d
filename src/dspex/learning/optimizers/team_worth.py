"""The worth of a team against a single agent, and of each of its members."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from dspex.arguments import checks_names
from dspex.errors import DefinitionError
from dspex.execution.context import RunContext
from dspex.execution.modules import Module
from dspex.execution.modules.agents import Coordination, Team
from dspex.learning.evaluation import Comparison, Dataset, Report, aevaluate, compare
from dspex.learning.evaluation.evaluate import Metrics
from dspex.sync import run

SINGLE = {"self.coordination": "single"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What something adds to a team: the paired difference of the score, and tokens per row."""

    comparison: Comparison
    tokens: float

    @property
    def per_1k_tokens(self) -> float | None:
        """The difference of the score for each 1,000 more tokens; None if it costs none."""
        return None if self.tokens <= 0 else self.comparison.difference / self.tokens * 1000

    def to_dict(self) -> dict[str, Any]:
        """Return the worth as JSON-ready data."""
        comparison = self.comparison.to_dict()
        return {**comparison, "tokens": self.tokens, "per_1k_tokens": self.per_1k_tokens}

    def __str__(self) -> str:
        rate = self.per_1k_tokens
        cost = f"{self.tokens:+.0f} tokens a row"
        return f"{self.comparison}; {cost}" + (
            "" if rate is None else f", {rate:+.3f} for 1,000 tokens"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamWorth:
    """What a team is worth.

    - `team` is its report; `single` is that of the single agent, if there is one.
    - `gain` is the team compared with the single agent.
    - `members` is the team compared with the team without each member.
    - `needed` are members that the others cannot do without, and why.
    """

    team: Report
    single: Report | None
    gain: Worth | None
    members: Mapping[str, Worth]
    needed: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-ready data, without the rows."""
        return {
            "team": self.team.mean,
            "single": None if self.single is None else self.single.mean,
            "gain": None if self.gain is None else self.gain.to_dict(),
            "members": {name: worth.to_dict() for name, worth in self.members.items()},
            "needed": dict(self.needed),
        }

    def _repr_html_(self) -> str:
        module = import_module("dspex.learning.optimizers.representation")
        markup: str = module.team_worth_html(self)
        return markup

    def __str__(self) -> str:
        lines = [f"team: {self.team.mean:.3f}, {tokens_of_row(self.team):.0f} tokens a row"]
        if self.single is not None:
            tokens = tokens_of_row(self.single)
            lines.append(f"single agent: {self.single.mean:.3f}, {tokens:.0f} tokens a row")
            lines.append(f"the team against it: {self.gain}")
        lines += [f"{name}: {worth}" for name, worth in self.members.items()]
        lines += [f"{name}: needed ({why})" for name, why in self.needed.items()]
        return "\n".join(lines)


@checks_names
async def aablate_members(
    team: Coordination[Any],
    rows: Dataset,
    *,
    metric: Metrics,
    single: Module | None = None,
    context: RunContext | None = None,
) -> TeamWorth:
    """Score a team on `rows` as it is, without each of its members, and against a single agent.

    Args:
        team: the team; of a search, the program that it returned.
        rows: rows that the search has not seen.
        metric: as for `evaluate`.
        single: the single agent; a `Team` has its own.
        context: of the runs.

    Raises:
        DefinitionError: `team` is not a team.
    """
    if not isinstance(team, Coordination):
        raise DefinitionError(
            f"ablate_members takes a team, such as dspex.agents.Team or Router, not {team!r}"
        )
    if single is None and isinstance(team, Team):
        single = team.assign(SINGLE)
    whole = await aevaluate(team, rows, metric, context=context)
    alone = None if single is None else await aevaluate(single, rows, metric, context=context)
    members, needed = {}, {}
    for name in team.active():
        try:
            rest = team.without(name)
        except DefinitionError as error:
            needed[name] = error.message
            continue
        members[name] = _worth(whole, await aevaluate(rest, rows, metric, context=context))
    return TeamWorth(
        team=whole,
        single=alone,
        gain=None if alone is None else _worth(whole, alone),
        members=members,
        needed=needed,
    )


@checks_names
def ablate_members(
    team: Coordination[Any],
    rows: Dataset,
    *,
    metric: Metrics,
    single: Module | None = None,
    context: RunContext | None = None,
) -> TeamWorth:
    """Score a team without each of its members; the synchronous twin of `aablate_members`.

    It takes what `aablate_members` takes.
    """
    return run(aablate_members(team, rows, metric=metric, single=single, context=context))


def _worth(whole: Report, rest: Report) -> Worth:
    return Worth(comparison=compare(whole, rest), tokens=tokens_of_row(whole) - tokens_of_row(rest))


def tokens_of_row(report: Report) -> float:
    """Return the tokens that a row costs on average."""
    return report.usage.total_tokens / max(len(report.rows), 1)
