"""Syncs as code: the documents of `phasesync diff` and `apply`, as values. Reads no file and asks no store."""
