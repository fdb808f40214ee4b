"""The environment of Alembic, with the connection from `drawbench.store.database`."""

from alembic import context

from drawbench.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
context.run_migrations()
