"""Decides how a removal of orphan users ended: for each user, and as a whole."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from phasesync.engine.leases.orphan_users import AccountScan, OrphanUser
from phasesync.errors import PhasesyncError
from phasesync.ports.issuer import RevokeOutcome


class RemovalResult(StrEnum):
    """What became of an orphan user."""

    REMOVED = "removed"
    GONE = "gone already"
    LEFT_ALONE = "left alone"
    """It is not ours any more."""
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class OrphanRemoval:
    """
    How a removal of orphan users ended.

    Attributes:
        results: ARN of a user -> what became of it.
        failure: the last error of a scan or a removal; None if all of them worked.
    """

    results: Mapping[str, RemovalResult]
    failure: PhasesyncError | None

    @property
    def removed(self) -> int:
        """Number of users that were removed."""
        return sum(result is RemovalResult.REMOVED for result in self.results.values())


def summarise_removal(
    scans: Iterable[AccountScan], outcomes: Iterable[tuple[OrphanUser, RevokeOutcome | PhasesyncError]]
) -> OrphanRemoval:
    """
    Return how a removal ended.

    Args:
        scans: of the accounts that were searched.
        outcomes: of the users that were to be removed.
    """
    outcomes = list(outcomes)
    errors = [scan.error for scan in scans if scan.error is not None]
    errors += [outcome for _, outcome in outcomes if isinstance(outcome, PhasesyncError)]
    return OrphanRemoval(
        results={orphan.user.arn: _result_of(outcome) for orphan, outcome in outcomes},
        failure=errors[-1] if errors else None,
    )


def _result_of(outcome: RevokeOutcome | PhasesyncError) -> RemovalResult:
    if isinstance(outcome, PhasesyncError):
        return RemovalResult.FAILED
    if outcome is RevokeOutcome.REMOVED:
        return RemovalResult.REMOVED
    return RemovalResult.LEFT_ALONE if outcome is RevokeOutcome.THEIRS else RemovalResult.GONE
