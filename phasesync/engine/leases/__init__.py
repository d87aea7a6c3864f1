"""Leases: issue, renew, revoke, expire, and users at AWS that no lease has."""
