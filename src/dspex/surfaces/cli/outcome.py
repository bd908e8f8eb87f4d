"""The outcome of `dspex optimize`, as JSON and on the terminal."""

from pathlib import Path
from typing import Any
from uuid import UUID

import click

from dspex.error_text import quantity
from dspex.learning.optimizers import Outcome
from dspex.surfaces.cli.output import say, show_json
from dspex.surfaces.cli.table import short_id
from dspex.surfaces.cli.text_width import wrap_prose
from dspex.surfaces.cli.trials import front_text, trials_text, worth_texts
from dspex.surfaces.cli.winner import StoredWinner, is_changed


def _json(outcome: Outcome[Any]) -> dict[str, Any]:
    verdict = outcome.verdict
    return {
        "trials": outcome.table(),
        "best": outcome.best.number,
        "front": outcome.front_table(),
        "verdict": None if verdict is None else {"better": verdict.is_better, **verdict.to_dict()},
        "result": outcome.result,
        "conclusion": outcome.conclusion,
        "unmet": list(outcome.unmet),
        "kept": outcome.kept,
        "changes": outcome.changes(),
        "importance": outcome.importance(),
        "ablation": {name: each.to_dict() for name, each in outcome.ablation.items()},
        "spent": {
            "calls": outcome.spent.calls,
            "usd": outcome.spent.cost_usd,
            "tokens": outcome.spent.total_tokens,
        },
        "stopped": outcome.stopped,
        "warnings": list(outcome.warnings),
        "program": outcome.program.to_program().content_hash,
    }


def show_outcome(
    outcome: Outcome[Any],
    out: Path | None,
    stored: StoredWinner | None,
    *,
    record_id: UUID | None,
    as_json: bool,
) -> None:
    """Print an outcome, the file and the version that have the winner, and the id of the job."""
    if as_json:
        version = None if stored is None else {"name": stored.name, "version": stored.version}
        show_json({**_json(outcome), "stored": version, "optimization_id": record_id})
        return
    _show(outcome, out, stored)
    if record_id is not None:
        say(f"stored: dspex optimization show {short_id(record_id)}")


def _show(outcome: Outcome[Any], out: Path | None, stored: StoredWinner | None) -> None:
    rows = [row for row in outcome.table() if outcome.trials[row["trial"]].candidate.is_final]
    click.echo(trials_text(rows))
    if front := outcome.front_table():
        click.echo(f"\n{front_text(front)}")
    changes = outcome.changes(is_short=True)
    click.echo(f"\nbest: trial {outcome.best.number}\n{changes}")
    click.echo(f"\n{wrap_prose(outcome.conclusion)}")
    ablation = {name: each.to_dict() for name, each in outcome.ablation.items()}
    for text in worth_texts(outcome.importance(), ablation):
        click.echo(text)
    spent = outcome.spent
    cost = "unknown cost" if spent.cost_usd is None else f"${spent.cost_usd:.4f}"
    click.echo(
        f"spent: {quantity(spent.calls, 'call')}, {quantity(spent.total_tokens, 'token')}, {cost}"
    )
    for warning in outcome.warnings:
        say(f"warning: {warning}")
    if outcome.stopped:
        say(f"stopped early: {outcome.stopped}")
    if out is not None:
        click.echo(f"the program{'' if is_changed(outcome) else ', as it was,'} is in {out}")
    if stored is not None:
        click.echo(f"the winner is version {stored.version} of {stored.name}, the current one")
