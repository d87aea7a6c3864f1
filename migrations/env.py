"""
Alembic's entry point. `phasesync.store.migrate` opens and locks the connection, and commits afterwards.

There is no alembic.ini: run `phasesync db migrate`. To write a migration, copy `script.py.mako`.
"""

from alembic import context

from phasesync.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    # SQLite changes tables by rebuilding them.
    render_as_batch=True,
    # One transaction holds the whole migration: a migration that fails leaves nothing behind, on both databases.
    transactional_ddl=True,
)
context.run_migrations()
