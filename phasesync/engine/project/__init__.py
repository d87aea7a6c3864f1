"""Syncs as code: compares documents with the store, applies them, and writes the store as documents."""
