"""The adapters to everything outside the process, one each. They raise only classes of `errors.py`."""
