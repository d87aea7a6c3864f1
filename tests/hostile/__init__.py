"""Hostile conditions, each with a real daemon: docs/hostile-conditions.md lists them."""
