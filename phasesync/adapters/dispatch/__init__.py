"""Distribute claimed syncs to workers. Exclusion is the claim's, not theirs."""
