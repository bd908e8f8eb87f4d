"""The trials of optimizations as rows."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID, uuid5

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
_JSON = sa.JSON(none_as_null=True)
_TIME = sa.DateTime(timezone=True)
# an id of version 7 ends with 62 random bits: those of a trial count from its job's on
_LAST_BITS, _RANDOM = (1 << 62) - 1, (1 << 48) - 1
_COLUMNS = ("trial", "label", "score", "rows", "failed", "calls")
_TRIALS = sa.table(
    "trials",
    sa.column("id", sa.Uuid()),
    sa.column("workspace"),
    sa.column("created_at", _TIME),
    sa.column("updated_at", _TIME),
    sa.column("lock_version"),
    sa.column("optimization_job_id", sa.Uuid()),
    sa.column("program_id", sa.Uuid()),
    sa.column("number"),
    sa.column("label"),
    sa.column("score", sa.Float()),
    sa.column("rows"),
    sa.column("failed"),
    sa.column("calls"),
    sa.column("is_final", sa.Boolean()),
    sa.column("is_on_front", sa.Boolean()),
    sa.column("figures", _JSON),
    sa.column("assignment", _JSON),
)
_JOBS = sa.table(
    "optimization_jobs",
    sa.column("id", sa.Uuid()),
    sa.column("workspace"),
    sa.column("updated_at", _TIME),
    sa.column("program_id", sa.Uuid()),
    sa.column("trials", _JSON),
    sa.column("best", _JSON),
)
_ENTRIES = sa.table(
    "journal_entries", sa.column("job_id", sa.Uuid()), sa.column("entry", sa.Text())
)


def upgrade() -> None:
    """Make the table, and move into it what each job has in its column."""
    op.create_table(
        "trials",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("lock_version", sa.Integer(), nullable=False),
        sa.Column("optimization_job_id", sa.Uuid(), nullable=False),
        sa.Column("program_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("rows", "failed", "calls")),
        sa.Column("is_final", sa.Boolean(), nullable=False),
        sa.Column("is_on_front", sa.Boolean(), nullable=False),
        sa.Column("figures", _JSON, nullable=False),
        sa.Column("assignment", _JSON, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_trials"),
        sa.ForeignKeyConstraint(
            ["optimization_job_id"],
            ["optimization_jobs.id"],
            name="fk_trials_optimization_job_id",
        ),
        sa.ForeignKeyConstraint(["program_id"], ["programs.id"], name="fk_trials_program_id"),
        sa.UniqueConstraint(
            "optimization_job_id", "number", name="uq_trials_optimization_job_id_number"
        ),
    )
    op.create_index("ix_trials_workspace_id", "trials", ["workspace", "id"])
    op.create_index("ix_trials_program_id", "trials", ["program_id"])
    connection = op.get_bind()
    for key in connection.execute(sa.select(_JOBS.c.id)).scalars().all():
        job = connection.execute(sa.select(_JOBS).where(_JOBS.c.id == key)).one()
        if rows := list(_rows(job, _journal(connection, key))):
            connection.execute(_TRIALS.insert(), rows)
    op.drop_column("optimization_jobs", "trials")


def downgrade() -> None:
    """Move them back; figures and assignments are lost."""
    op.add_column("optimization_jobs", sa.Column("trials", _JSON, nullable=True))
    connection = op.get_bind()
    for key in connection.execute(sa.select(_JOBS.c.id)).scalars().all():
        of_job = sa.select(_TRIALS).where(_TRIALS.c.optimization_job_id == key)
        rows = connection.execute(of_job.order_by(_TRIALS.c.number)).all()
        trials = [
            {name: getattr(row, "number" if name == "trial" else name) for name in _COLUMNS}
            for row in rows
        ]
        if trials:
            connection.execute(_JOBS.update().where(_JOBS.c.id == key).values(trials=trials))
    op.drop_table("trials")


def _rows(job: Any, journal: Mapping[int, Any]) -> Iterator[dict[str, Any]]:
    """Return the trials of a job with what is known of them.

    Figures are those of the journal, or else of the front. Values are known of the unchanged
    program and the best trial. Which trials were not final is unknown: those without figures.
    """
    best = job.best or {}
    front = {row["trial"]: row for row in best.get("front") or ()}
    values: dict[Any, Any] = {0: {}, best.get("trial"): best.get("values")}
    for trial in job.trials or ():
        number = trial["trial"]
        figures = (journal.get(number) or {}).get("figures") or {
            name: value
            for name, value in front.get(number, {}).items()
            if name not in {"trial", "label"}
        }
        yield {
            "id": UUID(
                int=job.id.int & ~_LAST_BITS | number << 48 | uuid5(job.id, "").int & _RANDOM
            ),
            "workspace": job.workspace,
            "created_at": job.updated_at,
            "updated_at": job.updated_at,
            "lock_version": 0,
            "optimization_job_id": job.id,
            "program_id": job.program_id,
            **{name: trial.get(name) or 0 for name in ("rows", "failed", "calls")},
            "number": number,
            "label": trial["label"],
            "score": trial.get("score"),
            "is_final": bool(figures),
            "is_on_front": number in front,
            "figures": figures,
            "assignment": values.get(number),
        }


def _journal(connection: sa.Connection, job: UUID) -> dict[int, Any]:
    """Return the trials in the journal of a job by number."""
    texts = sa.select(_ENTRIES.c.entry).where(
        _ENTRIES.c.job_id == job, _ENTRIES.c.entry.like('{"kind":"trial"%')
    )
    entries = map(json.loads, connection.execute(texts).scalars())
    return {entry["number"]: entry for entry in entries}
