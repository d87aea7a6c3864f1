"""
Copies of a remote object in other accounts: how they are told, and what ends them. Pure.

AWS refuses to delete a primary while a copy in another account is associated with it, also one that the other account
has detached (User Guide, stop cross-account replication). phasesync never ends an association that it did not make.
"""

from phasesync.core.arns import account_of
from phasesync.core.remote import CrossAccountLink, CrossAccountStatus, Observed


def copies_in_other_accounts(seen: Observed) -> str:
    """Return a clause that names the copies of an object in other accounts."""
    named = [one.arn or "one that AWS does not name" for one in seen.cross_account_copies]
    return f"it has {'a copy' if len(named) == 1 else 'copies'} in another account: {', '.join(named)}"


def how_to_end_copies(seen: Observed, region: str) -> str:
    """Return the commands that end the replication of an object to other accounts; the copies stay as they are."""
    return "; ".join(
        f"aws secretsmanager disassociate-cross-account-replica --secret-id {seen.name} "
        f"--cross-account-replica-arn {one.arn or 'ARN'} --region {region}"
        for one in seen.cross_account_copies
    )


def told(copy: CrossAccountLink) -> str:
    """Say how a copy in another account stands, and whose rights AWS replicates with."""
    rights = "with the rights of whoever writes" if copy.role_arn is None else f"by {copy.role_arn}"
    return f"copy in {_where(copy)}: {copy.status}, replicated {rights}"


def why_behind(seen: Observed, sync: str) -> str | None:
    """Say which copy in another account AWS could not bring up to date, and what is likely to help; None = none."""
    for copy in seen.cross_account_copies:
        if copy.status is not CrossAccountStatus.FAILED:
            continue
        behind = f"AWS could not bring the copy in {_where(copy)} up to date"
        if copy.role_arn is not None:
            return f"{behind}: {copy.role_arn} needs kms:Decrypt on the key here and kms:Encrypt on the key there"
        return (
            f"{behind}: whoever writes needs kms:Encrypt on the key there, which phasesync aws policy {sync} "
            "--copy-key ARN adds to the policy"
        )
    return None


def _where(copy: CrossAccountLink) -> str:
    return (copy.arn and account_of(copy.arn)) or "another account"
