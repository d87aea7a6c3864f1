"""Says on stderr as whom a command reached AWS: the identity of the shell, not the daemon's."""

from typing import TYPE_CHECKING

from phasesync.cli.output import Output

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.credential import Credential


def tell_identity(application: "Application", credential: "Credential", out: Output) -> None:
    """Print account and ARN: at most one call, and none where the command has asked already."""
    identity = application.clients.identity_of(credential)
    note = application.endpoint_note(credential.region)
    out.say(f"identity: account {identity.account}, {identity.arn}{note}")
