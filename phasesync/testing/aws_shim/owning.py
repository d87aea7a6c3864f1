"""
Secrets that another AWS service owns: only that service changes them.

Sources: User Guide, "Secrets managed by other AWS services" and troubleshooting ("This secret is managed by an AWS
service, and you must use that service to update it"); API reference, InvalidRequestException, last cause. Tags stay
free: the owning services say nothing against them.
"""

from typing import Any

from phasesync.testing.aws_shim.errors import invalid_request


def refuse_if_owned(secret: Any) -> None:
    """Refuse a write to a secret that a service owns: InvalidRequestException."""
    if secret.owning_service is not None:
        raise invalid_request("This secret is managed by an AWS service, and you must use that service to update it.")
