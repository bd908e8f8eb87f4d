"""Alembic's entry point: runs the steps on the connection that `migrating` hands over."""

from alembic import context
from sqlalchemy import MetaData

from dspex.operations.storage.tables import NAMING

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=MetaData(naming_convention=NAMING),
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
