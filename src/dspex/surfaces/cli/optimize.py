"""`dspex optimize`: search for better values of a program's variables and report the result."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from dspex.bootstrap import Services
from dspex.errors import DefinitionError, StorageError, boundary
from dspex.execution.backends import BackendModule, Choice
from dspex.execution.clients import Budget
from dspex.execution.modules import Module, build
from dspex.learning.evaluation import Dataset
from dspex.learning.evaluation.judge import JudgeMetric
from dspex.learning.optimizers import JsonlJournal, Optimizer, Outcome, Search, aoptimize
from dspex.learning.optimizers.export import to_csv, to_html
from dspex.learning.optimizers.limits import parse_pick
from dspex.learning.optimizers.options import find_problem
from dspex.learning.optimizers.registry import OPTIMIZERS, optimizers_with
from dspex.learning.optimizers.search import Estimate
from dspex.operations.optimizations.results import record_optimization
from dspex.operations.programs.records import ProgramRecord
from dspex.operations.programs.stored_programs import record_program
from dspex.surfaces.cli.complete import complete_target
from dspex.surfaces.cli.eval import (
    check_writable,
    load_target,
    select_rows,
    try_to_store,
    write,
)
from dspex.surfaces.cli.metrics import (
    find_judge,
    judge_model_option,
    judge_option,
    metric_option,
    metric_targets,
    metrics_of,
)
from dspex.surfaces.cli.options import (
    find_program_target,
    run_options,
    settings_of,
    with_services,
    workspace_option,
)
from dspex.surfaces.cli.outcome import show_outcome
from dspex.surfaces.cli.output import say
from dspex.surfaces.cli.progress import Progress
from dspex.surfaces.cli.targets import Target, code_root
from dspex.surfaces.cli.winner import StoredWinner, is_changed, next_step, store_winner
from dspex.telemetry import Event

_RECORDED_FLAGS = ("rows", "maximize", "subject_to", "trials", "per_class", "alpha", "seed")
_ABOVE_0 = click.FloatRange(0, min_open=True)


@click.command("optimize")
@click.argument("target", shell_complete=complete_target)
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--optimizer",
    type=click.Choice(list(OPTIMIZERS)),
    default=next(iter(OPTIMIZERS)),
    show_default=True,
    help=" ".join(f"{entry.name}: {entry.summary}" for entry in OPTIMIZERS.values()),
)
@click.option(
    "--objective",
    multiple=True,
    help=f"Objectives, such as exact_match, -usd or -p95 ({optimizers_with('objective')}).",
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    help=f"How many candidates ({optimizers_with('trials')}).",
)
@click.option(
    "--per-class",
    type=click.IntRange(1),
    help=f"Demonstrations for each class ({optimizers_with('per_class')}).",
)
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other option of the optimizer, as JSON or text.",
)
@metric_option
@judge_option
@judge_model_option
@click.option(
    "--where", multiple=True, metavar="COLUMN=VALUE", help="Train only on rows with this value."
)
@click.option(
    "--validation",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Score on these rows, not on the training rows.",
)
@click.option(
    "--test", multiple=True, metavar="COLUMN=VALUE", help="Held-out rows for the final report."
)
@click.option("--rows", type=click.IntRange(1), help="How many rows to score each candidate on.")
@click.option(
    "--maximize", help="What to maximize; a minus minimizes (-usd). The metric by default."
)
@click.option(
    "--subject-to", multiple=True, metavar="LIMIT", help="Such as 'p95<2s' or 'exact_match>=0.9'."
)
@click.option(
    "--pick",
    metavar="LIMITS,FIGURE",
    help="Limits and objective in one: 'f1>=0.9,cheapest'; also after a --journal is complete.",
)
@click.option(
    "--on-error", type=float, help="The score of a failed row; the worst score by default."
)
@click.option(
    "--alpha", type=float, default=0.05, show_default=True, help="The significance level."
)
@click.option("--max-usd", type=_ABOVE_0, help="Stop before spending more dollars.")
@click.option("--max-tokens", type=click.IntRange(1), help="Stop before using more tokens.")
@click.option(
    "--max-calls",
    type=click.IntRange(1),
    help="Stop before making more calls, including failed ones.",
)
@click.option(
    "--max-seconds",
    type=_ABOVE_0,
    help="Stop after this time; earlier runs on the same journal count.",
)
@click.option(
    "--journal",
    type=click.Path(path_type=Path),
    help="Continue from this file; created if missing.",
)
@click.option(
    "--fresh", is_flag=True, help="Start over; the file of --journal is renamed to FILE.old."
)
@click.option(
    "--output",
    "out",
    type=click.Path(path_type=Path),
    help="Write the best program to this file, as JSON.",
)
@click.option(
    "--store",
    "stores",
    is_flag=True,
    help="Store the winner as a version of the program, which becomes the current one.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    help="Write a page with plot, changes and trials to this file.",
)
@click.option("--csv", type=click.Path(path_type=Path), help="Write all trials to this file.")
@click.option(
    "--insist", is_flag=True, help="Keep the winner even without a significant improvement."
)
@click.option(
    "--ablate", is_flag=True, help="Measure what each value of the winner adds, within the budget."
)
@click.option("--race", is_flag=True, help="Stop a candidate as soon as it cannot win any more.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1000),
    default=8,
    show_default=True,
    help="The rows that run at once.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Of all random choices; the same seed makes the same choices.",
)
@workspace_option
@run_options
def optimize_command(
    *,
    target: str,
    data: Path,
    out: Path | None,
    stores: bool,
    model: str | None,
    adapter: str | None,
    state_dir: Path | None,
    as_json: bool,
    **flags: Any,
) -> int:
    """Search for a better TARGET on DATA (csv, jsonl or json) and compare both on held-out rows."""
    code = code_root()
    check_writable(out, flags["html"], flags["csv"], flags["journal"])
    program_target = find_program_target(target, state_dir)
    judge = find_judge(flags["judge"], flags["judge_model"], code)
    metrics = metrics_of(flags["metric"], code, judge=judge)
    train = select_rows(data, flags["where"], limit=None)
    search = _search(flags, data)
    # refuses contradictions before any model is opened
    search.goal([*metrics, *([] if judge is None else [judge.name])])
    optimizer = _optimizer(flags)

    async def work(services: Services) -> _Result:
        program = await load_target(services, program_target)
        choice = services.backends.choose(program, backend=flags["backend"])
        is_native = choice.name == "native"
        module = build(choice.program, code=code) if is_native else _on_backend(choice)
        if judge is not None:
            metrics[judge.name] = await _judge(services, judge, flags["judge_model"])
        outcome = await _optimize(
            module, optimizer, train=train, metric=metrics, context=services.context, search=search
        )
        base = await try_to_store(record_program(services.operations, program))
        winner = None
        if stores and is_changed(outcome):
            made_by, name = f"optimizer {flags['optimizer']}", program_target.name
            winner = await store_winner(services, outcome, name, made_by=made_by)
        result = _Result(outcome=outcome, winner=winner)
        return await _record(services, result, base, train=train, flags=flags, judge=judge)

    with warnings.catch_warnings(), _interruptible(flags["journal"]):
        warnings.simplefilter("ignore", UserWarning)  # the outcome has them too
        result = with_services(
            settings_of(model=model, adapter=adapter, state_dir=state_dir),
            work,
            workspace=flags["workspace"],
        )
    outcome, stored = result.outcome, result.winner
    write(out, lambda: outcome.program.to_program(program_target.name).to_json() + "\n")
    write(flags["html"], lambda: to_html(outcome, f"{target} on {train.name}"))
    write(flags["csv"], lambda: to_csv(outcome))
    show_outcome(outcome, out, stored, record_id=result.record_id, as_json=as_json)
    file = None if out is None else str(out)
    step = next_step(outcome, target=target, data=str(data), file=file, stored=stored)
    say(f"next: {step}")
    return 1 if outcome.unmet and not search.insists else 0


@contextmanager
def _interruptible(journal: Path | None) -> Iterator[None]:
    """Report how to continue a search that the user interrupts."""
    try:
        yield
    except KeyboardInterrupt:
        say(
            "with --journal FILE, a search continues after an interruption"
            if journal is None
            else f"{journal} has what was done: the same command continues the search"
        )
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """What a search returned, the version that was stored, and the id of the stored job."""

    outcome: Outcome[Any]
    winner: StoredWinner | None
    record_id: UUID | None = None


async def _record(
    services: Services,
    result: _Result,
    base: ProgramRecord | None,
    *,
    train: Dataset,
    flags: dict[str, Any],
    judge: Target | None,
) -> _Result:
    """Store a search as a completed job; a warning says why it could not be stored.

    `base` is the stored program that it began with, None if that could not be stored.
    """
    if base is None:
        return result
    limits = {name: flags[f"max_{name}"] for name in ("usd", "tokens", "calls", "seconds")}
    settings = {name: flags[name] for name in _RECORDED_FLAGS if flags[name]}
    work = record_optimization(
        services.operations,
        result.outcome,
        program=base,
        rows=train,
        metrics=metric_targets(flags["metric"], judge),
        optimizer=flags["optimizer"],
        budget={name: limit for name, limit in limits.items() if limit is not None},
        configuration={**settings, "options": dict(map(_option, flags["options"]))},
        result=None if result.winner is None else result.winner.id,
    )
    job = await try_to_store(work)
    return result if job is None else replace(result, record_id=job.id)


def _on_backend(choice: Choice) -> Module:
    return BackendModule(choice.program, choice.backend)


async def _judge(services: Services, target: Target, model: str | None) -> JudgeMetric:
    choice = services.backends.choose(await load_target(services, target))
    return JudgeMetric.of(_on_backend(choice), name=target.name, model=model)


def _optimizer(flags: dict[str, Any]) -> Optimizer:
    """Return the optimizer with its options.

    Raises:
        DefinitionError: it does not take an option, or not this value.
    """
    entry = OPTIMIZERS[flags["optimizer"]]
    options = dict(_option(text) for text in flags["options"])
    for flag in ("trials", "per_class", "objective"):
        value = list(flags[flag]) if isinstance(flags[flag], tuple) else flags[flag]
        if not value:
            continue
        name = entry.option_of(flag)
        if name is None:
            raise DefinitionError(
                f"--{flag.replace('_', '-')} is an option of --optimizer {optimizers_with(flag)}, "
                f"not of {entry.name}"
            )
        options[name] = value
    problem = find_problem(options, entry.options, part="option", subject=entry.name)
    if problem is not None:
        raise DefinitionError(problem.message)
    return entry.create(**options)


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise DefinitionError(f"--option takes NAME=VALUE, not {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _search(flags: dict[str, Any], data: Path) -> Search:
    datasets = {
        name: select_rows(data, flags[name], limit=None)
        for name in ("validation", "test")
        if flags[name]
    }
    if datasets and not flags["where"]:
        raise DefinitionError(
            f"--{next(iter(datasets))} names other rows; name the training rows by --where "
            "split=train"
        )
    if flags["fresh"] and flags["journal"] is None:
        raise DefinitionError("--fresh renames the file of --journal; give --journal too")
    maximize, subject_to = flags["maximize"], flags["subject_to"]
    if flags["pick"] is not None:
        if maximize or subject_to:
            raise DefinitionError(
                "--pick replaces --maximize and --subject-to; give either --pick or those two"
            )
        maximize, subject_to = parse_pick(flags["pick"])
    search = Search(
        rows=flags["rows"],
        validation=datasets.get("validation"),
        test=datasets.get("test"),
        insists=flags["insist"],
        race=flags["race"],
        ablate=flags["ablate"],
        alpha=flags["alpha"],
        maximize=maximize,
        subject_to=subject_to,
        on_error=flags["on_error"],
        budget=Budget(
            usd=flags["max_usd"],
            tokens=flags["max_tokens"],
            calls=flags["max_calls"],
            seconds=flags["max_seconds"],
        ),
        concurrency=flags["concurrency"],
        seed=flags["seed"],
    )
    return search if flags["journal"] is None else replace(search, journal=_journal(flags))


async def _optimize(
    module: Module, optimizer: Optimizer, *, search: Search, **material: Any
) -> Outcome[Any]:
    """Optimize while a live line shows how far the search is."""
    with Progress("optimizing", unit="call") as progress:
        search = _with_progress(search, progress)
        return await aoptimize(module, optimizer, search=search, **material)


def _with_progress(search: Search, progress: Progress) -> Search:
    """Return the search with listeners: the estimate and trials are lines above the live one."""

    def on_estimate(estimate: Estimate) -> None:
        progress.total = estimate.calls
        progress.say(f"estimate: {estimate}")

    def on_progress(event: Event) -> None:
        progress.done = int(str(event.attributes["calls"]))
        progress.say(event.message)

    return replace(search, on_estimate=on_estimate, on_progress=on_progress)


def _journal(flags: dict[str, Any]) -> JsonlJournal:
    path: Path = flags["journal"]
    if flags["fresh"] and path.exists():
        old = path.with_name(f"{path.name}.old")
        with boundary(StorageError, f"the journal {str(path)!r} cannot be renamed"):
            path.replace(old)
        say(f"the old journal is {old} now")
    return JsonlJournal(path)
