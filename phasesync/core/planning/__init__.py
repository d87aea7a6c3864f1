"""What a run decides: plan, guard, ownership, journal, budget. The tables of the documentation, as pure functions."""
