"""Alembic environment: runs on the connection that ``Database.upgrade`` passes in."""

from alembic import context

from dicom_ai_node.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
