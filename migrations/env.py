"""
Alembic's entry point. Migrations run on a connection that `phasesync.store.migrate` opened, locked and commits.

There is no alembic.ini: `python -m phasesync db migrate` is the way in. To write a migration, copy `script.py.mako`.
"""

from alembic import context

from phasesync.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    # SQLite changes tables by rebuilding them.
    render_as_batch=True,
    # The transaction is ours: a migration that fails leaves nothing behind, on both databases.
    transactional_ddl=True,
)
context.run_migrations()
