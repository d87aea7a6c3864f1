"""Keeps us in the AWS account that was pinned: an edited role must not make everything anew elsewhere."""

from phasesync.core.credential import Credential
from phasesync.core.sync_state import SyncState
from phasesync.errors import AccountMismatchError
from phasesync.ports.destination import Destination


def verify_account(state: SyncState, destination: Destination) -> str:
    """
    Return the account that a sync's destination leads to.

    Raises:
        AccountMismatchError: the sync or its credential is pinned to another one.
        DestinationError: AWS does not say who we are.
    """
    return require_account(state.credential, destination.account_id(), state.sync.account)


def require_account(credential: Credential, account: str, *pinned: str | None) -> str:
    """Return the account that a credential leads to; AccountMismatchError where it, or `pinned`, says another one."""
    for one in (*pinned, credential.account):
        if one is not None and one != account:
            raise AccountMismatchError(
                f"the credential {credential.name} now leads to account {account}, pinned is {one}",
                hint=f"correct the credential, or accept the account: phasesync credentials update "
                f"{credential.name} --account {account}",
            )
    return account
