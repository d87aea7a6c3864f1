"""What every AWS adapter stands on: clients, calls, the table of errors, policies, identity."""
