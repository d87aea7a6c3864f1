"""Fills in the hints of errors: the sync or dynamic secret that a command is about, and its credential."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from phasesync.core.lease import Lease
from phasesync.errors import Hint, PhasesyncError
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
    """The names for hints about a lease: its dynamic secret, and the credential with which it was issued."""

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


def hint_of(error: PhasesyncError, subject: Named) -> str | None:
    """Return the hint of an error about a sync or a dynamic secret."""
    if not isinstance(error.hint, Hint):
        return error.hint
    return error.hint.filled(name=subject.name, policy_for=subject.name, credential=subject.credential)


def hint_with_name(hint: str, name: str) -> str:
    """Return a hint about a sync, if its credential is not part of the hint."""
    return hint.filled(name=name, policy_for=name) if isinstance(hint, Hint) else hint


@contextmanager
def hints_for(subject: Named) -> Iterator[None]:
    """Fill in the hints of errors that pass: they are about this sync or dynamic secret."""
    try:
        yield
    except PhasesyncError as error:
        error.hint = hint_of(error, subject)
        raise


@contextmanager
def hints_about(credential: str) -> Iterator[None]:
    """Fill in the hints of errors that pass, if the operator named a credential only."""
    try:
        yield
    except PhasesyncError as error:
        if isinstance(error.hint, Hint):
            error.hint = error.hint.filled(policy_for=f"--all --credential {credential}", credential=credential)
        raise
