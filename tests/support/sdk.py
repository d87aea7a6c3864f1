"""
The AWS SDK in tests: the models of its services are found and read once for a process.

Each session of the SDK looks for them and reads them anew, some megabytes of JSON, and thousands of sessions are made
here.
"""

from __future__ import annotations

from functools import cache

import botocore.loaders
import botocore.session


def keep_models() -> None:
    """Have all sessions share one loader for each place that models are looked for in, from now on."""
    botocore.session.create_loader = cache(botocore.loaders.create_loader)
