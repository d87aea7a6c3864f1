"""What has two implementations: destinations, issuers, time, events, dispatch. `bootstrap` wires them."""
