"""
Keeps phasesync from asking itself for its own identity.

A profile of AWS's configuration may get its credentials from `phasesync leases issue` (credential_process). Where that
profile is also the one that the default chain of the SDK takes, because of AWS_PROFILE or as [default], phasesync would
start itself without end. So an issue marks its environment for the processes that the SDK starts.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from phasesync.errors import SettingsError

MARKER: Final = "PHASESYNC_ISSUING"
"""Variable with the dynamic secrets that processes above this one are issuing leases of, with commas between them."""
SAID: Final = "the AWS profile that phasesync takes its identity from gets its credentials from phasesync itself"
"""The whole message: the process above finds it in what the SDK tells of the one that it has started."""


def own_profile() -> SettingsError:
    """Return the error for a profile that leads back to phasesync."""
    profile = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "NAME"
    return SettingsError(
        SAID,
        hint=f"choose the profile with --profile {profile}, not with AWS_PROFILE nor as [default]; or give "
        "phasesync an identity of its own: credential_process = env AWS_PROFILE=host phasesync leases issue NAME …",
    )


@contextmanager
def issuing(dynamic: str) -> Iterator[None]:
    """
    Mark this process's environment while a lease of a dynamic secret is issued.

    SettingsError where a process above is issuing one of the same already: it waits for this one.
    """
    former = os.environ.get(MARKER)
    above = former.split(",") if former else []
    if dynamic.lower() in above:
        raise own_profile()
    os.environ[MARKER] = ",".join([*above, dynamic.lower()])
    try:
        yield
    finally:
        if former is None:
            del os.environ[MARKER]
        else:
            os.environ[MARKER] = former
