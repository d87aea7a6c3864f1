"""
Copies of secrets in other accounts, and managed external secrets: what others make of an object. Part of `FakeRemote`.

Rules: User Guide, replicate across accounts and stop cross-account replication (the value follows, all else is the
copy's own; each account has to end the replication on its side before it deletes); managed external secrets.
"""

from copy import copy
from dataclasses import replace

from phasesync.core.remote import CrossAccountLink, CrossAccountStatus
from tests.fakes.objects import ACCOUNT, REGION, FakeObject, FakeObjects


class FakeCrossAccount(FakeObjects):
    """What AssociateCrossAccountReplica and its opposites do, and UpdateSecret with a Type."""

    def outside_external(self, name: str, kind: str = "SalesforceClientSecret") -> None:
        """Somebody makes a managed external secret of an object."""
        there = self.object(name)
        there.external_type = kind
        self.changed(there)

    def outside_copy(
        self,
        name: str,
        *,
        account: str,
        primary_account: str = ACCOUNT,
        role_arn: str | None = None,
        region: str = REGION,
    ) -> FakeObject:
        """
        Both sides have an object copied to another account; that has settled already.

        Args:
            name: of the primary, and of the copy.
            account: of the copy.
            primary_account: of the primary.
            role_arn: the role that replicates, None = whoever writes does.
            region: of both.
        """
        primary = self.object(name, account=primary_account, region=region)
        made = self.add(name, account=account, region=region)
        made.cross_account_primary = CrossAccountLink(arn=primary.arn, status=CrossAccountStatus.PENDING)
        link = CrossAccountLink(arn=made.arn, status=CrossAccountStatus.IN_PROGRESS, role_arn=role_arn)
        primary.cross_account_copies = (*primary.cross_account_copies, link)
        self.follow(primary)
        self.changed(primary)
        return made

    def outside_end_copies(self, name: str, *, account: str = ACCOUNT, region: str = REGION) -> None:
        """The owner of a primary ends its replication; the copies stay, detached."""
        primary = self.object(name, account=account, region=region)
        for made in self._copies_of(primary):
            self._note(made, CrossAccountStatus.DETACHED)
        primary.cross_account_copies = ()
        self.changed(primary)

    def follow(self, primary: FakeObject) -> None:
        """Bring the values of copies in step with their primary's."""
        for made in self._copies_of(primary):
            made.versions = {
                key: replace(version, labels=copy(version.labels))
                for key, version in primary.versions.items()
                if version.labels
            }
            self._note(made, CrossAccountStatus.IN_SYNC)
        primary.cross_account_copies = tuple(
            replace(one, status=CrossAccountStatus.IN_SYNC) for one in primary.cross_account_copies
        )

    def _copies_of(self, primary: FakeObject) -> list[FakeObject]:
        arns = {one.arn for one in primary.cross_account_copies}
        return [one for one in self.objects.values() if one.arn in arns]

    def _note(self, made: FakeObject, status: CrossAccountStatus) -> None:
        if made.cross_account_primary is not None:
            made.cross_account_primary = replace(made.cross_account_primary, status=status)
        self.changed(made)
