"""Fakes that pass the contract suites of the real adapters."""
