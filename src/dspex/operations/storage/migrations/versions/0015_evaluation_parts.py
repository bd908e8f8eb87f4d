"""The parts of large evaluations, each a job on any worker."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
_JSON = sa.JSON(none_as_null=True)
_TIME = sa.DateTime(timezone=True)
_TABLE = "evaluation_parts"
_REFERENCES = {
    "evaluation_id": "evaluations",
    "program_id": "programs",
    "program_version_id": "program_versions",
    "dataset_id": "datasets",
}
_TEXTS = {"status": False, "waiting": True, "actor": False, "worker": True, "judge_model": True}
_TIMES = ("retry_at", "started_at", "finished_at")
_JSONS = {
    "configuration": False,
    "needs": False,
    "progress": False,
    "metrics": False,
    "error": True,
}


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        _TABLE,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("lock_version", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Uuid(), nullable=False) for name in _REFERENCES),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("first_row", "end_row")),
        *(sa.Column(name, sa.Text(), nullable=optional) for name, optional in _TEXTS.items()),
        *(sa.Column(name, _JSON, nullable=optional) for name, optional in _JSONS.items()),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("attempts", "turn")),
        *(sa.Column(name, _TIME, nullable=True) for name in _TIMES),
        sa.Column("judge_version_id", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=f"pk_{_TABLE}"),
        *(
            sa.ForeignKeyConstraint([column], [f"{table}.id"], name=f"fk_{_TABLE}_{column}")
            for column, table in _REFERENCES.items()
        ),
    )
    for column in ("evaluation_id", "status"):
        op.create_index(f"ix_{_TABLE}_{column}", _TABLE, [column])


def downgrade() -> None:
    """Drop it."""
    op.drop_table(_TABLE)
