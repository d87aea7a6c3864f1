"""The error tree: what the command line and the runs make of each class."""

import inspect

import pytest

from phasesync import errors
from phasesync.core.run import Outcome, verdict_of
from phasesync.core.sync import SyncStatus
from phasesync.errors import PhasesyncError

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, PhasesyncError)]


def make(cls: type[PhasesyncError]) -> PhasesyncError:
    """Make an error of a class with what it needs."""
    if cls is errors.PlanHeldError:
        return errors.PlanHeldError(digest="0" * 16)
    if cls is errors.PayloadTooLargeError:
        return errors.PayloadTooLargeError(size_bytes=70_000, limit_bytes=65_536, largest=("A (60,000 bytes)",))
    if cls is errors.DocumentError:
        return errors.DocumentError(["shop.yaml:3:7: name is missing", "shop.yaml:4:1: unknown field 'app'"])
    return cls()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_says_something_on_one_line(cls: type[PhasesyncError]) -> None:
    """The docstring is the default message, and the tree above it names the class."""
    error = make(cls)

    assert error.message
    assert "\n" not in error.message
    assert cls.__name__ in (errors.__doc__ or "")


# Exit codes of the command line: 1 failed, 2 usage, 4 needs a person, 5 not found, 6 settings, 7 destination, 130.
@pytest.mark.parametrize(
    ("name", "exit_code", "outcome", "status"),
    [
        ("SettingsError", 6, Outcome.FAILED, SyncStatus.HALTED),
        ("KeyUnavailableError", 6, Outcome.FAILED, SyncStatus.HALTED),
        ("CiphertextError", 6, Outcome.FAILED, SyncStatus.HALTED),
        ("SchemaMismatchError", 6, Outcome.FAILED, SyncStatus.HALTED),
        ("UnresolvedReferenceError", 1, Outcome.FAILED, SyncStatus.HALTED),
        ("PayloadTooLargeError", 1, Outcome.FAILED, SyncStatus.HALTED),
        ("DestinationRejectedError", 1, Outcome.FAILED, SyncStatus.HALTED),
        ("PlanHeldError", 4, Outcome.HELD, SyncStatus.HELD),
        ("OwnershipConflictError", 4, Outcome.REFUSED, SyncStatus.HALTED),
        ("AccountMismatchError", 4, Outcome.REFUSED, SyncStatus.HALTED),
        ("StaleDatabaseError", 4, Outcome.REFUSED, SyncStatus.HALTED),
        ("ThrottledError", 7, Outcome.FAILED, SyncStatus.FAILING),
        ("DestinationUnavailableError", 7, Outcome.FAILED, SyncStatus.FAILING),
        ("CredentialRejectedError", 7, Outcome.FAILED, SyncStatus.FAILING),
        ("PermissionDeniedError", 7, Outcome.FAILED, SyncStatus.FAILING),
        ("OutcomeUnknownError", 1, Outcome.UNKNOWN, SyncStatus.PENDING),
        ("InterruptedRunError", 130, Outcome.INTERRUPTED, SyncStatus.PENDING),
        ("NotFoundError", 5, Outcome.FAILED, SyncStatus.HALTED),
        ("AlreadyExistsError", 4, Outcome.FAILED, SyncStatus.HALTED),
        ("UnhealthyError", 7, Outcome.FAILED, SyncStatus.HALTED),
        ("ConfirmationRequiredError", 2, Outcome.FAILED, SyncStatus.HALTED),
    ],
)
def test_what_an_error_means(name: str, exit_code: int, outcome: Outcome, status: SyncStatus) -> None:
    """Exit code of a command, outcome of a run and status afterwards, as documented."""
    error = make(getattr(errors, name))

    assert (error.exit_code, verdict_of(error).outcome, verdict_of(error).status) == (exit_code, outcome, status)
