"""
Deletion: a recovery window in which it can be undone, or at once. Part of `FakeRemote`.

Rules: User Guide, delete a secret; API reference, DeleteSecret and RestoreSecret.
"""

from datetime import timedelta

from tests.fakes.objects import FakeObject, FakeObjects, in_the_way, missing, rejected


class FakeDeletion(FakeObjects):
    """What DeleteSecret and RestoreSecret do."""

    def delete(self, found: FakeObject | None, *, recovery_days: int | None) -> None:
        """DeleteSecret; None forces it, which succeeds where nothing is."""
        if recovery_days is not None and not 7 <= recovery_days <= 30:
            raise rejected("DeleteSecret")
        if found is None:
            if recovery_days is None:
                return
            raise missing("DeleteSecret")
        if found.replicas:
            raise in_the_way("DeleteSecret", "InvalidParameterException")
        if found.is_replica:
            raise rejected("DeleteSecret")
        if found.cross_account_copies or found.cross_account_primary is not None:
            raise in_the_way("DeleteSecret")
        if found.owning_service is not None:
            raise in_the_way("DeleteSecret")
        if recovery_days is None:
            self.drop(found)
            return
        if found.deleted_at is not None:
            raise in_the_way("DeleteSecret")
        found.deleted_at = self.now() + timedelta(days=recovery_days)
        self.changed(found)

    def restore(self, found: FakeObject | None) -> None:
        """RestoreSecret; what is not scheduled for deletion stays as it is."""
        if found is None:
            raise missing("RestoreSecret")
        if found.is_replica:
            raise rejected("RestoreSecret")
        found.deleted_at = None
        self.changed(found)
