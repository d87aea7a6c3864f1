"""Works on one claim: keeps it alive while the sync is reconciled."""

from phasesync.engine.claims import ClaimKeeper
from phasesync.engine.reconcile import Reconciler
from phasesync.ports import Claim


class Worker:
    """What a dispatcher calls in one of its threads."""

    def __init__(self, reconciler: Reconciler, keeper: ClaimKeeper) -> None:
        """
        Args:
            reconciler: does the work.
            keeper: renews the claim meanwhile; its `renew` is called by the daemon.
        """
        self._reconciler = reconciler
        self._keeper = keeper

    def work(self, claim: Claim) -> None:
        """Reconcile a claimed sync. StoreUnavailableError where the result could not be recorded."""
        permit = self._keeper.hold(claim)
        try:
            self._reconciler.reconcile(claim, permit)
        finally:
            self._keeper.drop(claim)
