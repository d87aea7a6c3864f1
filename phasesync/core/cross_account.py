"""
Copies of a remote object in other accounts: how they are told, and what ends them. Pure.

AWS refuses to delete a primary while a copy in another account is associated with it, also one that the other account
has detached (User Guide, stop cross-account replication). phasesync never ends an association that it did not make.
"""

from phasesync.core.arns import account_of
from phasesync.core.remote import CrossAccountLink, Observed


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
    where = (copy.arn and account_of(copy.arn)) or "another account"
    rights = "with the rights of whoever writes" if copy.role_arn is None else f"by {copy.role_arn}"
    return f"copy in {where}: {copy.status}, replicated {rights}"
