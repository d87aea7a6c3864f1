"""What has two implementations: destinations, issuers, time, events, dispatch. Adapters implement these; `bootstrap` wires them."""
