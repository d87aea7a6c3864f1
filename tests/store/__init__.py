"""The store, beyond what its ports promise: what is on disk, statements, processes, migrations."""
