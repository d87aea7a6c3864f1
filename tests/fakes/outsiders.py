"""
Somebody else who changes things at AWS. Part of `FakeRemote`.

Others are bound by AWS's rules as well, but nothing here is counted, hooked or made to fail.
"""

from collections.abc import Mapping, Sequence

from phasesync.core.model import SecretValue, ValueType
from phasesync.core.remote import PENDING
from phasesync.core.sync import AWS_MANAGED_KEY
from tests.fakes.deletion import FakeDeletion
from tests.fakes.objects import ACCOUNT, REGION, FakeObject, FakeVersion


class FakeOutsiders(FakeDeletion):
    """What others do, in the default account and Region where none is given."""

    def outside_create(
        self,
        name: str,
        value: str | bytes = "theirs",
        *,
        tags: Mapping[str, str] | None = None,
        account: str = ACCOUNT,
        region: str = REGION,
    ) -> FakeObject:
        """Somebody makes an object."""
        made = self.add(name, account=account, region=region)
        made.tags = dict(tags or {})
        self.add_version(made, self.new_version_id("outside"), _value(value))
        return made

    def outside_put(self, name: str, value: str | bytes, *, account: str = ACCOUNT, region: str = REGION) -> str:
        """Somebody writes a value; return its version id."""
        there = self.object(name, account=account, region=region)
        return self.add_version(there, self.new_version_id("outside"), _value(value)).id

    def outside_delete(
        self, name: str, *, recovery_days: int | None = 30, account: str = ACCOUNT, region: str = REGION
    ) -> None:
        """Somebody deletes an object: scheduled, or at once where `recovery_days` is None."""
        self.delete(self.object(name, account=account, region=region), recovery_days=recovery_days)

    def outside_restore(self, name: str, *, account: str = ACCOUNT, region: str = REGION) -> None:
        """Somebody cancels a scheduled deletion."""
        self.restore(self.object(name, account=account, region=region))

    def outside_tag(self, name: str, tags: Mapping[str, str], *, untag: Sequence[str] = ()) -> None:
        """Somebody changes tags, ours included."""
        there = self.object(name)
        there.tags.update(tags)
        for key in untag:
            there.tags.pop(key, None)
        self.changed(there)

    def outside_describe(self, name: str, *, description: str | None = None, kms_key: str | None = None) -> None:
        """Somebody sets the description or the key; a `kms_key` of AWS_MANAGED_KEY is the AWS-managed one."""
        there = self.object(name)
        if description is not None:
            there.description = description
        if kms_key is not None:
            there.kms_key = None if kms_key == AWS_MANAGED_KEY else kms_key
        self.changed(there)

    def outside_read(self, name: str, *, account: str = ACCOUNT, region: str = REGION) -> None:
        """Somebody reads the value: AWS notes the day."""
        there = self.object(name, account=account, region=region)
        there.last_read_on = self.now().date()
        self.show(there)

    def outside_rotation(self, name: str) -> None:
        """Somebody has AWS rotate the object: a pending version appears."""
        there = self.object(name)
        there.rotation_enabled = True
        version_id = self.new_version_id("rotation")
        there.versions[version_id] = FakeVersion(version_id, SecretValue("rotating"), {PENDING}, self.now())
        self.changed(there)

    def outside_service(self, name: str, service: str = "rds") -> None:
        """An AWS service takes an object over."""
        there = self.object(name)
        there.owning_service = service
        self.changed(there)


def _value(value: str | bytes) -> SecretValue:
    """A text is a SecretString, bytes are a SecretBinary."""
    return SecretValue(value, ValueType.BINARY if isinstance(value, bytes) else ValueType.TEXT)
