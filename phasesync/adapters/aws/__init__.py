"""What every AWS adapter uses: clients and calls, identities, the table of errors, rate limits, policies."""
