"""Keeps a sync in the AWS account that it was pinned to: an edited role must not make everything anew elsewhere."""

from phasesync.errors import AccountMismatchError
from phasesync.ports import Destination, SyncState


def same_account(state: SyncState, destination: Destination) -> str:
    """
    Return the account that a sync's destination leads to.

    Raises:
        AccountMismatchError: the sync or its credential is pinned to another one.
        DestinationError: AWS does not say who we are.
    """
    sync, account = state.sync, destination.account_id()
    for pinned in (sync.account, state.credential.account):
        if pinned is not None and pinned != account:
            raise AccountMismatchError(
                f"the credential {sync.credential} now leads to account {account}, pinned is {pinned}",
                hint=f"correct the credential, or accept the account: phasesync credentials update "
                f"{sync.credential} --account {account}",
            )
    return account
