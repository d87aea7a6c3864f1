"""One test for each incident that users of other tools reported; `docs/incidents.md` has the reports."""
