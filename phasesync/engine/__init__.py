"""The use cases. Sees ports and core, never adapters; says what happened through events, never through log calls."""
