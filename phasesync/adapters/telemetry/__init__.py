"""Telemetry: log lines for events of the core, for phasesync itself and for the libraries below it."""
