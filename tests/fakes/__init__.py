"""Fakes that pass the contract suites of the real adapters, and a search for leaks. For tests and the demo."""
