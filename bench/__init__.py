"""Benchmarks: what phasesync costs, beside how the peers do the same job. `python -m bench` lists them."""
