"""`dspex job`: list, show, watch, pause, resume, requeue and cancel jobs of every kind."""

from collections.abc import Iterator, Mapping
from contextlib import aclosing
from operator import itemgetter
from pathlib import Path
from typing import Any

import click

from dspex.bootstrap import Services
from dspex.error_text import quantity
from dspex.errors import NotFoundError
from dspex.operations.domain import DOMAIN, QUEUES
from dspex.operations.events.event_log import Feed
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Query
from dspex.operations.jobs.inputs import JobRef
from dspex.operations.jobs.job import JobResource
from dspex.operations.optimizations.records import OPTIMIZATION_JOB
from dspex.operations.optimizations.stored_trials import trials_of
from dspex.surfaces.cli.breakdown import breakdown_tables
from dspex.surfaces.cli.group import SuggestingGroup
from dspex.surfaces.cli.nouns import limit_option
from dspex.surfaces.cli.options import (
    has_database,
    operations_in,
    state_option,
    with_store,
    workspace_option,
)
from dspex.surfaces.cli.output import failure_text, json_option, row_text, show_json
from dspex.surfaces.cli.references import find_row
from dspex.surfaces.cli.rows import names_of
from dspex.surfaces.cli.table import table, time_text
from dspex.surfaces.cli.trials import front_text, trials_text, worth_texts

_COLUMNS = ("kind", "status", "subject", "progress", "waiting", "created_at", "id")
_SUBJECTS = ("program", "collection")  # what a job works on
_ENDED = ("completed", "failed", "cancelled")
_PARTS = ("error", "rows", "trials", "best", "breakdown")
_TRIAL_COLUMNS = ("label", "score", "rows", "failed", "calls")
_MOST_ERRORS = 3
_PUBLIC = {queue: resource for queue, resource in QUEUES.items() if not resource.is_internal}


@click.group("job", cls=SuggestingGroup)
def job_command() -> None:
    """List, show, watch, pause, resume, requeue and cancel jobs of every kind."""


@job_command.command("list")
@limit_option
@workspace_option
@state_option
@json_option
def list_command(
    *, limit: int, workspace: str | None, state_dir: Path | None, as_json: bool
) -> int:
    """List the jobs of every kind, newest first, with the reasons for waiting."""

    async def work(services: Services) -> list[dict[str, Any]]:
        operations = await operations_in(services, workspace)
        jobs: list[dict[str, Any]] = []
        for queue, resource in _PUBLIC.items():
            rows = await operations.list(resource, Query(limit=limit))
            jobs += [{"kind": queue, **resource.values_of(row)} for row in rows]
            if not as_json:
                name = next(name for name in _SUBJECTS if f"{name}_id" in resource.references)
                names = await names_of(services, [DOMAIN[name]], rows, workspace=workspace)
                for job in jobs[len(jobs) - len(rows) :]:
                    job["subject"] = names[name].get(job[f"{name}_id"])
        return sorted(jobs, key=lambda row: str(row["id"]), reverse=True)[:limit]

    rows = with_store(state_dir, work) if has_database(state_dir) else []
    if as_json:
        show_json({"jobs": rows, "next": None})
    else:
        shown = [{**row, "progress": _progress_text(row["progress"])} for row in rows]
        click.echo(table(shown, _COLUMNS) if rows else "there are no jobs yet")
    return 0


@job_command.command("show")
@click.argument("job_id", metavar="ID")
@workspace_option
@state_option
@json_option
def show_command(
    *, job_id: str, workspace: str | None, state_dir: Path | None, as_json: bool
) -> int:
    """Show a job: its state, and for an optimization the verdict, the trials and the front."""

    async def work(services: Services) -> dict[str, Any]:
        operations = await operations_in(services, workspace)
        resource, job = await _find_job(operations, job_id)
        return await _values(operations, resource, job)

    _show(with_store(state_dir, work), as_json=as_json)
    return 0


@job_command.command("watch")
@click.argument("job_id", metavar="ID")
@workspace_option
@state_option
def watch_command(*, job_id: str, workspace: str | None, state_dir: Path | None) -> int:
    """Print what a job reports until it ends; exits with 1 unless it completes."""

    async def work(services: Services) -> dict[str, Any]:
        operations = await operations_in(services, workspace)
        resource, job = await _find_job(operations, job_id)
        feed = services.operations.services[Feed]
        events = feed.follow(operations.workspace, resource.queue, after=str(job.id))
        async with aclosing(events):
            async for entry in events:
                if entry.event.subject_id != job.id:
                    continue
                time = time_text(entry.event.created_at)
                click.echo(f"{time}  {_event_text(entry.event.payload)}")
                if entry.event.payload.get("status") in _ENDED:
                    break
        return await _values(operations, resource, await operations.row(resource, job.id))

    values = with_store(state_dir, work)
    click.echo()
    _show(values, as_json=False)
    return 0 if values["status"] == "completed" else 1


def _step_command(step: str, about: str) -> click.Command:
    def call(*, job_id: str, workspace: str | None, state_dir: Path | None, as_json: bool) -> int:
        async def work(services: Services) -> dict[str, Any]:
            operations = await operations_in(services, workspace)
            resource, job = await _find_job(operations, job_id)
            action = next(a for a in DOMAIN.actions if a.name == f"{step}_{resource.queue}")
            changed = await operations.perform(action, JobRef(id=job.id))
            return {"kind": resource.queue, **resource.values_of(changed)}

        values = with_store(state_dir, work)
        if as_json:
            show_json(values)
        else:
            click.echo(f"{values['kind']} {job_id} is {values['status']}")
        return 0

    argument = click.Argument(["job_id"], metavar="ID")
    command: click.Command = click.Command(step, params=[argument], callback=call, help=about)
    return workspace_option(state_option(json_option(command)))


for _step, _about in (
    ("pause", "Pause a job; its answers so far are kept."),
    ("resume", "Queue a paused or failed job again; it continues where it stopped."),
    ("requeue", "Take a running job from its worker and queue it again."),
    ("cancel", "Cancel a job."),
):
    job_command.add_command(_step_command(_step, _about))


async def _find_job(operations: Operations, text: str) -> tuple[JobResource[Any], Any]:
    for resource in _PUBLIC.values():
        try:
            return resource, await find_row(operations.list, resource, text)
        except NotFoundError:
            continue
    raise NotFoundError(f"no job has the id {text!r}; `dspex job list` shows the jobs")


async def _values(operations: Operations, resource: JobResource[Any], job: Any) -> dict[str, Any]:
    """Return what is shown of a job: its attributes, and the trials of an optimization."""
    values = {"kind": resource.queue, **resource.values_of(job)}
    if resource is OPTIMIZATION_JOB:
        values["trials"] = [
            {"trial": row.number, **{name: getattr(row, name) for name in _TRIAL_COLUMNS}}
            for row in await trials_of(operations, job.id)
        ]
    return values


def _progress_text(progress: Mapping[str, Any]) -> str:
    """Return the rows, trials or documents that are done, and the mean or best so far."""
    parts = []
    if "of" in progress:
        parts.append(f"{progress['done']:,} of {quantity(progress['of'], 'row')}")
    if "documents" in progress:
        parts.append(quantity(progress["documents"], "document"))
        parts.append(quantity(progress["chunks"], "chunk"))
    if "trials" in progress:
        parts.append(quantity(progress["trials"], "trial"))
    parts += [
        f"{name} {progress[name]:.2f}"
        for name in ("mean", "best")
        if isinstance(progress.get(name), float)
    ]
    return ", ".join(parts)


def _event_text(payload: Mapping[str, Any]) -> str:
    """Return what an event says: its message, or else the state, the progress and the reason."""
    if message := payload.get("message"):
        return str(message)
    parts = (payload["status"], _progress_text(payload["progress"] or {}), payload["waiting"])
    return ": ".join(part for part in parts if part)


def _show(values: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(values)
        return
    click.echo(row_text({name: values[name] for name in values if name not in _PARTS}))
    for part in _parts(values):
        click.echo(f"\n{part}")


def _parts(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is long: the first errors, the trials, the front, and the verdict."""
    if error := values.get("error"):
        yield failure_text(error["message"], error.get("frames", ()))
    failed = [row for row in values.get("rows") or () if row["error"] is not None]
    first = {row["error"]: row for row in reversed(failed)}.values()
    for row in sorted(first, key=itemgetter("index"))[:_MOST_ERRORS]:
        yield f"row {row['index']}: {failure_text(row['error'], row.get('frames', ()))}"
    best = values.get("best") or {}
    yield from breakdown_tables(values.get("breakdown") or {})
    if trials := values.get("trials"):
        yield trials_text(trials)
    if front := best.get("front"):
        yield front_text(front)
    if best:
        yield _best_text(best)
        yield from worth_texts(best.get("importance") or {}, best.get("ablation") or {})
        if prompts := best.get("prompt_changes"):
            yield f"prompts:\n{prompts}"


def _best_text(best: Mapping[str, Any]) -> str:
    trial = "" if "trial" not in best else f" trial {best['trial']},"
    texts = [f"best:{trial} {best['label']}", best.get("changes")]
    texts.append(best.get("conclusion") or best.get("verdict"))
    texts += [f"warning: {text}" for text in best.get("warnings", ())]
    return "\n".join(text for text in texts if text)
