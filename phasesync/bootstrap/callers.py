"""
Who works with the store, and from where, for the audit log: as far as this process can tell.

Only the user of the operating system and the login are facts, from the kernel. `--actor` is what the user claims, and
the address is what the environment says.
"""

import os
import pwd
from contextlib import suppress
from pathlib import Path

from phasesync.core.audit import Caller

_LOGIN_UID = Path("/proc/self/loginuid")
_NO_LOGIN = 2**32 - 1


def command_caller(actor: str) -> Caller:
    """Return the caller of a command: its actor, and host, login and address that it came from."""
    parts = [f"cli@{os.uname().nodename}"]
    if (login := _login()) is not None:
        parts.append(f"login {login}")
    if connection := os.environ.get("SSH_CONNECTION"):
        # Imported here, so that whoever sits at the machine does not pay for it.
        from ipaddress import ip_address

        # As sshd sets it: address and port of the client, then ours.
        with suppress(ValueError):
            parts.append(f"from {ip_address(connection.partition(' ')[0])}")
    return Caller(actor=actor, source=" ".join(parts))


def daemon_caller() -> Caller:
    """Return the caller of what a daemon does by itself."""
    return Caller(actor="phasesync", source=f"daemon@{os.uname().nodename}")


def _login() -> str | None:
    """
    Return who logged in, if that is another user than the one at work: `sudo` and `su` change the latter alone.

    Linux keeps it since the login, and no process without privileges can change it (audit, loginuid).
    """
    try:
        uid = int(_LOGIN_UID.read_text())
    except (OSError, ValueError):
        return None
    if uid in (_NO_LOGIN, os.geteuid()):
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
