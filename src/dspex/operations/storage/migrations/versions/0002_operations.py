"""Tables of tenants, data sets, jobs, events and the audit trail; more of an execution.

The tables are for tenants, keys, secrets, data sets, evaluations, optimizations, events, and the
audit trail.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
_ADDED = (
    "queue_ms",
    "stages",
    "parent_id",
    "retry_of",
    "idempotency_key",
    "actor",
    "owner",
    "deadline_at",
    "inputs_hash",
    "payloads",
)
_TABLES = (
    "processes",
    "audit_entries",
    "events",
    "journal_entries",
    "job_workers",
    "optimization_jobs",
    "evaluations",
    "datasets",
    "secrets",
    "api_keys",
    "workspaces",
)


def _text(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _json(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON(none_as_null=True), nullable=nullable)


def _time(name: str, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _uuid(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Uuid(), nullable=nullable)


def _number(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Float(), nullable=True)


def _integer(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), nullable=False)


def _table(name: str, *parts: sa.Column[Any] | sa.Constraint) -> None:
    op.create_table(
        name,
        _uuid("id"),
        _text("workspace"),
        _time("created_at", nullable=False),
        _time("updated_at", nullable=False),
        _integer("lock_version"),
        *parts,
        sa.PrimaryKeyConstraint("id", name=f"pk_{name}"),
    )


def _reference(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}")


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=f"uq_{table}_{'_'.join(columns)}")


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))


def upgrade() -> None:
    """Make the tables, and widen executions."""
    _tenancy()
    _table(
        "datasets",
        *(
            _text("name"),
            _integer("version"),
            _text("split"),
            _json("schema"),
            _json("rows"),
            _integer("row_count"),
        ),
        *(_text("checksum"), _text("source")),
        _unique("datasets", "workspace", "name", "version"),
    )
    _jobs()
    _trail()
    with op.batch_alter_table("executions") as table:
        table.add_column(_number("queue_ms"))
        table.add_column(_json("stages", nullable=True))
        table.add_column(_uuid("parent_id", nullable=True))
        table.add_column(_uuid("retry_of", nullable=True))
        table.add_column(_text("idempotency_key", nullable=True))
        table.add_column(sa.Column("actor", sa.Text(), nullable=False, server_default="local"))
        table.add_column(_text("owner", nullable=True))
        table.add_column(_time("deadline_at"))
        table.add_column(_text("inputs_hash", nullable=True))
        table.add_column(sa.Column("payloads", sa.Text(), nullable=False, server_default="stored"))
        table.create_unique_constraint(
            "uq_executions_workspace_idempotency_key", ["workspace", "idempotency_key"]
        )
    _index("executions", "parent_id")
    for name in ("program_id", "workspace"):  # pages are in the order of ids, which is that of time
        op.drop_index(f"ix_executions_{name}_created_at", "executions")
        _index("executions", name, "id")


def _tenancy() -> None:
    _table("workspaces", _text("name"), _text("status"), _unique("workspaces", "name"))
    _table(
        "api_keys",
        *(_text("name"), _text("status"), _json("scopes"), _json("limits"), _text("hash")),
        *(_time("expires_at"), _time("last_used_at")),
        _unique("api_keys", "workspace", "name"),
    )
    _table(
        "secrets",
        *(
            _text("name"),
            _text("status"),
            _text("reference", nullable=True),
            _text("ciphertext", nullable=True),
        ),
        _unique("secrets", "workspace", "name"),
    )


def _jobs() -> None:
    _evaluations()
    _optimizations()
    _workers()
    for table in ("evaluations", "optimization_jobs"):
        _index(table, "workspace", "id")
        _index(table, "status")
        _index(table, "program_id")


def _evaluations() -> None:
    _table(
        "evaluations",
        *(
            _uuid("program_id"),
            _uuid("program_version_id"),
            _uuid("dataset_id"),
            _text("status"),
            _json("metrics"),
        ),
        *(
            _json("configuration"),
            _json("needs"),
            _json("progress"),
            _text("waiting", nullable=True),
        ),
        *(
            _integer("attempts"),
            _json("rows", nullable=True),
            _number("mean"),
            _json("interval", nullable=True),
        ),
        *(
            _number("cost_usd"),
            _number("p50_ms"),
            _number("p95_ms"),
            _json("error", nullable=True),
            _text("actor"),
        ),
        *_turns(),
        _reference("evaluations", "program_id", "programs"),
        _reference("evaluations", "program_version_id", "program_versions"),
        _reference("evaluations", "dataset_id", "datasets"),
    )


def _optimizations() -> None:
    _table(
        "optimization_jobs",
        *(
            _uuid("program_id"),
            _uuid("program_version_id"),
            _uuid("dataset_id"),
            _text("status"),
            _text("optimizer"),
        ),
        _json("metrics"),
        *(_json("configuration"), _json("budget"), _json("needs"), _json("progress")),
        *(_text("waiting", nullable=True), _integer("attempts"), _json("trials", nullable=True)),
        *(
            _json("best", nullable=True),
            _uuid("result_version_id", nullable=True),
            _json("error", nullable=True),
        ),
        _text("actor"),
        *_turns(),
        _reference("optimization_jobs", "program_id", "programs"),
        _reference("optimization_jobs", "program_version_id", "program_versions"),
        _reference("optimization_jobs", "dataset_id", "datasets"),
        _reference("optimization_jobs", "result_version_id", "program_versions"),
    )


def _workers() -> None:
    _table(
        "job_workers",
        *(
            _text("host"),
            _integer("pid"),
            _text("status"),
            _json("queues"),
            _text("code"),
            _text("revision"),
        ),
        _integer("beats"),
    )
    _index("job_workers", "status")
    op.create_table(
        "journal_entries",
        *(_uuid("job_id"), _integer("number"), _text("entry")),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_journal_entries"),
    )


def _turns() -> tuple[sa.Column[Any], ...]:
    return (
        *(_integer("turn"), _text("worker", nullable=True), _time("retry_at")),
        *(_time("started_at"), _time("finished_at")),
    )


def _trail() -> None:
    _table(
        "events",
        _text("topic"),
        _uuid("subject_id"),
        _uuid("program_id", nullable=True),
        _json("payload"),
    )
    _index("events", "workspace", "topic", "id")
    _index("events", "subject_id")
    _table(
        "audit_entries",
        *(_text("actor"), _text("action"), _text("resource"), _uuid("resource_id")),
        *(_json("before", nullable=True), _json("after", nullable=True)),
    )
    _index("audit_entries", "workspace", "id")
    _index("audit_entries", "resource_id")
    _table("processes", _text("owner"), _integer("beats"))


def downgrade() -> None:
    """Narrow executions again, and drop the tables."""
    for name in ("program_id", "workspace"):
        op.drop_index(f"ix_executions_{name}_id", "executions")
        op.create_index(f"ix_executions_{name}_created_at", "executions", [name, "created_at"])
    op.drop_index("ix_executions_parent_id", "executions")
    with op.batch_alter_table("executions") as table:
        table.drop_constraint("uq_executions_workspace_idempotency_key", type_="unique")
        for name in _ADDED:
            table.drop_column(name)
    for name in _TABLES:
        op.drop_table(name)
