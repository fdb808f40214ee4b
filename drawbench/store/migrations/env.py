"""Run by Alembic, on the connection that `drawbench.store.database` hands over."""

from alembic import context

from drawbench.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
context.run_migrations()
