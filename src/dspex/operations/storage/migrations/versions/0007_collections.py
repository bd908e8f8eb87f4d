"""Collections with their documents, versions, chunks and ingestions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
_JSON = sa.JSON(none_as_null=True)
_TIME = sa.DateTime(timezone=True)


def _common(table: str) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("lock_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
    ]


def _in_collection(table: str) -> list[sa.schema.SchemaItem]:
    return [
        *_common(table),
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collections.id"], name=f"fk_{table}_collection_id"
        ),
    ]


def upgrade() -> None:
    """Make the tables, and the vectors of PostgreSQL where that is possible."""
    op.create_table(
        "collections",
        *_common("collections"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("embedder", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("dimensions", sa.Integer(), nullable=True),
        sa.Column("chunking", _JSON, nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("index_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("documents", sa.Integer(), nullable=False),
        sa.Column("chunks", sa.Integer(), nullable=False),
        sa.Column("characters", sa.Float(), nullable=False),
        sa.Column("embedded_tokens", sa.Float(), nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=True),
        sa.UniqueConstraint("workspace", "name", name="uq_collections_workspace_name"),
    )
    _documents()
    _ingestions()
    _chunks()
    if op.get_bind().dialect.name == "postgresql":
        _use_pgvector()


def _documents() -> None:
    op.create_table(
        "documents",
        *_in_collection("documents"),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("chunks", sa.Integer(), nullable=False),
        sa.Column("characters", sa.Integer(), nullable=False),
        sa.UniqueConstraint("collection_id", "key", name="uq_documents_collection_id_key"),
    )
    op.create_index("ix_documents_workspace_id", "documents", ["workspace", "id"])
    op.create_index("ix_documents_version_id", "documents", ["version_id"])
    op.create_table(
        "document_versions",
        *_in_collection("document_versions"),
        sa.Column("ingestion_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
    )
    op.create_index(
        "ix_document_versions_ingestion_id_status_id",
        "document_versions",
        ["ingestion_id", "status", "id"],
    )
    op.create_index(
        "ix_document_versions_collection_id_key", "document_versions", ["collection_id", "key"]
    )


def _ingestions() -> None:
    op.create_table(
        "ingestions",
        *_in_collection("ingestions"),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("configuration", _JSON, nullable=False),
        sa.Column("needs", _JSON, nullable=False),
        sa.Column("progress", _JSON, nullable=False),
        sa.Column("waiting", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", _JSON, nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        *(
            sa.Column(name, _TIME, nullable=True)
            for name in ("retry_at", "started_at", "finished_at")
        ),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("documents", sa.Integer(), nullable=False),
        *(
            sa.Column(name, sa.Integer(), nullable=True)
            for name in ("unchanged", "chunks", "embedded_chunks")
        ),
        sa.Column("embedded_tokens", sa.Float(), nullable=True),
        sa.Column("cost_usd", sa.Float(), nullable=True),
    )
    op.create_index("ix_ingestions_workspace_id", "ingestions", ["workspace", "id"])
    op.create_index("ix_ingestions_status", "ingestions", ["status"])
    op.create_index("ix_ingestions_collection_id", "ingestions", ["collection_id"])


def _chunks() -> None:
    op.create_table(
        "chunks",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("index_id", sa.Uuid(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("is_last", sa.Boolean(), nullable=False),
        sa.Column("start_offset", sa.Integer(), nullable=False),
        sa.Column("end_offset", sa.Integer(), nullable=False),
        sa.Column("text_hash", sa.LargeBinary(), nullable=False),
        sa.Column("metadata", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_chunks"),
        sa.ForeignKeyConstraint(
            ["version_id"], ["document_versions.id"], name="fk_chunks_version_id"
        ),
        sa.UniqueConstraint(
            "version_id", "index_id", "position", name="uq_chunks_version_id_index_id_position"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_chunks_index_id_text_hash", "chunks", ["index_id", "text_hash"])


def _use_pgvector() -> None:
    """Make the extension if it is installed and this role may; without it searches are exact."""
    op.execute(
        "DO $$ BEGIN CREATE EXTENSION IF NOT EXISTS vector; EXCEPTION WHEN OTHERS THEN NULL; END $$"
    )


def downgrade() -> None:
    """Drop the tables, and the tables for searches."""
    connection = op.get_bind()
    names = sa.inspect(connection).get_table_names()
    for name in names:
        kind = name.removeprefix("chunk_search_").partition("_")[2]
        if name.startswith("chunk_search_") and kind in {"", "vectors"}:
            op.execute(f'DROP TABLE "{name}"')
    for name in ("chunks", "ingestions", "document_versions", "documents", "collections"):
        op.drop_table(name)
