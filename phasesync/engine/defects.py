"""What an exception that nobody foresaw means: the host lacked something, or phasesync has a defect."""

from phasesync.errors import HostUnavailableError, InternalError, PhasesyncError
from phasesync.host_files import shortage


def error_of(error: Exception) -> PhasesyncError:
    """Return the error for an exception that is none of ours; both are tried again."""
    lacking = shortage(error)
    if lacking is not None:
        return HostUnavailableError(f"this host could not do it: {lacking}")
    return InternalError.of_defect(error)
