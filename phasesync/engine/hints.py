"""Hints of errors that end what an operator asked of one thing: NAME in them is that thing, or its credential."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from phasesync.core.lease import Lease
from phasesync.errors import CredentialRejectedError, PhasesyncError
from phasesync.store.credentials import CredentialStore


class Named(Protocol):
    """A sync or a dynamic secret."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def credential(self) -> str:
        """Name of its credential."""
        ...


@dataclass(frozen=True)
class LeaseNames:
    """What hints about a lease name: its dynamic secret, and the credential that it was made with."""

    credentials: CredentialStore
    lease: Lease

    @property
    def name(self) -> str:
        """Name of its dynamic secret."""
        return self.lease.dynamic

    @property
    def credential(self) -> str:
        """Name of its credential."""
        return self.credentials.get_by_id(self.lease.credential_id).name


def hint_of(error: PhasesyncError, what: Named) -> str | None:
    """Return an error's hint with the name that NAME stands for: the word after a command of ours."""
    meant = what.credential if isinstance(error, CredentialRejectedError) else what.name
    if error.hint is None:
        return None
    return _with_credential(naming(error.hint, meant), what.credential)


def hint_about(error: PhasesyncError, credential: str) -> str | None:
    """Return an error's hint where a credential was named, and neither a sync nor a dynamic secret."""
    if error.hint is None:
        return None
    hint = error.hint.replace(_POLICY_OF_ONE, f"phasesync aws policy --all --credential {credential}")
    if isinstance(error, CredentialRejectedError):
        hint = _PLACEHOLDER.sub(rf"\1 {credential}", hint)
    return _with_credential(hint, credential)


def _with_credential(hint: str, credential: str) -> str:
    return hint.replace("--credential CREDENTIAL", f"--credential {credential}")


def naming(hint: str, name: str) -> str:
    """Return a hint with a name in place of NAME."""
    return _PLACEHOLDER.sub(rf"\1 {name}", hint)


@contextmanager
def hints_for(what: Named) -> Iterator[None]:
    """Have the hints of errors that pass name this sync or dynamic secret."""
    try:
        yield
    except PhasesyncError as error:
        error.hint = hint_of(error, what)
        raise


@contextmanager
def hints_about(credential: str) -> Iterator[None]:
    """Have the hints of errors that pass name this credential, where neither sync nor dynamic secret was named."""
    try:
        yield
    except PhasesyncError as error:
        error.hint = hint_about(error, credential)
        raise


_POLICY_OF_ONE = "phasesync aws policy NAME"
_PLACEHOLDER = re.compile(r"(\bphasesync(?: [a-z-]+){1,3}) NAME\b")
"""Remote names may have NAME in them: shop/production/HOSTNAME."""
