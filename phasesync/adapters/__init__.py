"""The outside world, one adapter each. They raise only classes of `errors.py`; siblings do not import each other."""
