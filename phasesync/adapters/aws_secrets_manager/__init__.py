"""AWS Secrets Manager as a destination; `destination.SPEC` describes it."""
