"""What every operation gets: the world, the keys, the rights, and how long things take here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from phasesync.emulator.access import Access
from phasesync.emulator.errors import invalid_parameter, marked_for_deletion, not_found
from phasesync.emulator.kms import Keys
from phasesync.emulator.request import Call
from phasesync.emulator.world import World

Result = dict[str, Any]
Operate = Callable[["Service", Call], Result]


@dataclass
class Timing:
    """How long things take, by the emulator's clock; AWS gives no figures except for the list. All may be changed."""

    list_lag: timedelta = timedelta()
    """ListSecrets "might not reflect changes from the last five minutes" (API reference, ListSecrets)."""
    force_delete_takes: timedelta = timedelta()
    """ "There might be a short delay before the secret is permanently deleted" (API reference, DeleteSecret)."""
    replication_takes: timedelta = timedelta()
    """Until a replica is InSync."""
    new_key_takes: timedelta = timedelta()
    """Until AWS knows a new access key (IAM User Guide, "Changes that I make are not always immediately visible")."""
    new_user_takes: timedelta = timedelta()
    """Until IAM finds a new user (as above; public: terraform-provider-aws waits for two minutes)."""


@dataclass
class Limits:
    """RateLimiter that do not recover (User Guide, quotas; of users: IAM User Guide, quotas). All may be changed."""

    secrets: int = 500_000
    """Per account and Region."""
    versions: int = 100
    """Per secret."""
    labels: int = 20
    """Over all versions of a secret."""
    tags: int = 50
    """Per secret (General Reference, tag naming limits)."""
    users: int = 5_000
    """IAM users of an account."""
    user_policies: int = 10
    """Managed policies of a user; AWS raises it to 20 at most."""
    user_groups: int = 10
    """Groups that a user is in."""
    user_keys: int = 2
    """Access keys of a user."""
    user_inline_characters: int = 2_048
    """Of all inline policies of a user together, white space not counted."""
    user_tags: int = 50
    """Per user."""
    iam_page: int = 1_000
    """Entries on a page of IAM, however many were asked for: it "might return fewer" (API reference, ListUsers)."""


@dataclass
class Service:
    """Secrets Manager, without its operations."""

    world: World
    access: Access
    keys: Keys
    timing: Timing = field(default_factory=Timing)
    limits: Limits = field(default_factory=Limits)
    lists: dict[str, list[Any]] = field(default_factory=dict, repr=False)
    """What the first page of a list found, for its other pages; see `listing.py`."""

    def secret(self, call: Call, *, writes: bool = True, marked: bool = False) -> Any:
        """
        Return the secret that a call is about.

        Args:
            call: the call.
            writes: it changes the secret, so that a replica is refused: InvalidParameterException, "Operation not
                permitted on a replica secret" (public: cloud-nuke issue 435; User Guide, replicas are read-only).
            marked: a secret that is scheduled for deletion will do as well; otherwise InvalidRequestException (API
                reference, InvalidRequestException, first cause).
        """
        found = self.world.find(call.account, call.region, call.secret_id)
        if found is None:
            raise not_found()
        if writes and self.world.is_replica(found):
            raise invalid_parameter(
                "Operation not permitted on a replica secret. Call must be made in primary secret's region."
            )
        if not marked and self.world.extras(found).gone_at is not None:
            raise marked_for_deletion()
        return found
