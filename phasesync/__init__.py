"""phasesync: one encrypted store as the source of truth for environment secrets, kept in step with AWS."""

__version__ = "0.2.0"
