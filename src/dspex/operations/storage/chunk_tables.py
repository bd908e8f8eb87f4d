"""The table of chunks, and the names of the tables in which one index is searched."""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

CHUNKS = sa.Table(
    "chunks",
    sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    ),
    # never used twice, so that what is cached of a deleted chunk is not taken for another one
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    sa.Column("index_id", sa.Uuid(), nullable=False),
    sa.Column("version_id", sa.Uuid(), sa.ForeignKey("document_versions.id"), nullable=False),
    sa.Column("position", sa.Integer(), nullable=False),
    sa.Column("is_last", sa.Boolean(), nullable=False),
    sa.Column("start_offset", sa.Integer(), nullable=False),
    sa.Column("end_offset", sa.Integer(), nullable=False),
    sa.Column("text_hash", sa.LargeBinary(), nullable=False),
    sa.Column("metadata", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
    sa.Column("text", sa.Text(), nullable=False),
    sa.Column("vector", sa.LargeBinary(), nullable=True),
    sa.UniqueConstraint("version_id", "index_id", "position"),
    sa.Index(None, "index_id", "text_hash"),
    sqlite_autoincrement=True,
)
"""The chunks of all collections, which are not a resource. `is_last` completes a version."""


def search_table(index_id: UUID) -> str:
    """Return the name of the table in which an index is searched by words (and vectors)."""
    return f"chunk_search_{index_id.hex}"
