"""Alembic's entry point: runs the steps on the connection that `migrating` hands over."""

from alembic import context

from dspex.operations.storage.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
