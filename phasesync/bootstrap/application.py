"""
The wired application: the parts, and what an operator may ask, each made when it is first asked for.

A command imports what it uses: listing apps imports no AWS SDK.
"""

from functools import cached_property
from typing import TYPE_CHECKING

from phasesync.bootstrap.parts import Parts

if TYPE_CHECKING:
    from phasesync.engine.adoption import Adoption
    from phasesync.engine.configuration import SyncConfiguration
    from phasesync.engine.credentials import CredentialOperations
    from phasesync.engine.dynamic import DynamicConfiguration
    from phasesync.engine.explanation import Explainer
    from phasesync.engine.force_deletion import ForceDeletion
    from phasesync.engine.leases import LeaseOperations
    from phasesync.engine.operations import SyncOperations
    from phasesync.engine.release import SyncRelease
    from phasesync.engine.remote_deletion import RemoteDeletion
    from phasesync.engine.removal import SyncRemoval
    from phasesync.engine.verification import Verification


class Application(Parts):
    """Everything a command or a daemon works with, on one database."""

    @cached_property
    def operations(self) -> "SyncOperations":
        """What an operator may ask of a sync."""
        from phasesync.engine.operations import SyncOperations

        return SyncOperations(
            credentials=self.credentials,
            state=self.state,
            reconciler=self.reconciler,
            claims=self.claims,
            daemons=self.daemons,
            clock=self.clock,
        )

    @cached_property
    def configuration(self) -> "SyncConfiguration":
        """Adds and changes syncs."""
        from phasesync.engine.configuration import SyncConfiguration

        return SyncConfiguration(
            environments=self.environments,
            credentials=self.credentials,
            state=self.state,
            destinations=self.destinations,
            tester=lambda: self.tester,
        )

    @cached_property
    def adoption(self) -> "Adoption":
        """Takes objects over that are not ours."""
        from phasesync.engine.adoption import Adoption

        return Adoption(
            environments=self.environments,
            state=self.state,
            destinations=self.destinations,
            instance_id=self.instance_id,
        )

    @cached_property
    def removal(self) -> "SyncRemoval":
        """Removes syncs."""
        from phasesync.engine.removal import SyncRemoval

        return SyncRemoval(
            state=self.state, destinations=self.destinations, claims=self.claims, instance_id=self.instance_id
        )

    @cached_property
    def remote_deletion(self) -> "RemoteDeletion":
        """Removes syncs with their remote objects."""
        from phasesync.engine.remote_deletion import RemoteDeletion

        return RemoteDeletion(
            state=self.state,
            destinations=self.destinations,
            claims=self.claims,
            instance_id=self.instance_id,
            clock=self.clock,
        )

    @cached_property
    def force_deletion(self) -> "ForceDeletion":
        """Deletes one remote object for good."""
        from phasesync.engine.force_deletion import ForceDeletion

        return ForceDeletion(
            credentials=self.credentials,
            state=self.state,
            destinations=self.destinations,
            claims=self.claims,
            instance_id=self.instance_id,
            clock=self.clock,
        )

    @cached_property
    def releasing(self) -> "SyncRelease":
        """Gives remote objects back."""
        from phasesync.engine.release import SyncRelease

        return SyncRelease(
            state=self.state,
            destinations=self.destinations,
            claims=self.claims,
            instance_id=self.instance_id,
            clock=self.clock,
        )

    @cached_property
    def explainer(self) -> "Explainer":
        """Explains syncs."""
        from phasesync.engine.explanation import Explainer

        return Explainer(state=self.state, reconciler=self.reconciler, instance_id=self.instance_id, clock=self.clock)

    @cached_property
    def verification(self) -> "Verification":
        """Compares values at AWS with the store."""
        from phasesync.engine.verification import Verification

        return Verification(
            environments=self.environments,
            state=self.state,
            destinations=self.destinations,
            digests=self._store.keys.digests,
        )

    @cached_property
    def credential_operations(self) -> "CredentialOperations":
        """What an operator may ask of a credential."""
        from phasesync.engine.credentials import CredentialOperations

        return CredentialOperations(self.credentials, lambda: self.tester)

    @cached_property
    def dynamic_configuration(self) -> "DynamicConfiguration":
        """Adds and changes dynamic secrets."""
        from phasesync.engine.dynamic import DynamicConfiguration

        return DynamicConfiguration(
            dynamics=self.dynamics,
            environments=self.environments,
            credentials=self.credentials,
            issuers=self.issuers,
        )

    @cached_property
    def lease_operations(self) -> "LeaseOperations":
        """What an operator may ask of leases."""
        import secrets

        from phasesync.core.user_names import RANDOM, RANDOM_ALPHABET
        from phasesync.engine.leases import LeaseOperations

        # What a clock noted that was set back since is moved before anything is noted by the clock as it is.
        self.clock_watch.look(self.owner)
        return LeaseOperations(
            dynamics=self.dynamics,
            leases=self.leases,
            credentials=self.credentials,
            issuers=self.issuers,
            ender=self.lease_ender,
            clock=self.clock,
            owner=self.owner,
            instance_id=self.instance_id,
            random_text=lambda: "".join(secrets.choice(RANDOM_ALPHABET) for _ in range(RANDOM)),
        )
