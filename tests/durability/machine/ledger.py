"""
An AWS that writes down everything that is changed in it: who, what, in which order, and how it looked before and after.

The judge reads it. Must not judge.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from phasesync.core.model import SecretValue
from phasesync.core.remote import Observed, Payload, ResourceExists, WriteResult
from tests.fakes.remote import FakeObject, FakeRemote

if TYPE_CHECKING:
    from tests.durability.machine.workers import Worker

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Looks:
    """An object at one moment. `value` is what readers get."""

    observed: Observed
    value: SecretValue | None = field(repr=False)
    versions: frozenset[str]

    @property
    def current(self) -> str | None:
        """Id of the version that readers get."""
        return self.observed.current_version


@dataclass(frozen=True, kw_only=True)
class Write:
    """
    One change at AWS.

    Attributes:
        number: counts all changes.
        by: the worker that asked for it; None means another process.
        what: name of the operation.
        told: what AWS had reported of the object when the worker asked; None if there was none.
        before: None if there was nothing of the name.
        after: None if there is nothing any more.
        regions: for copies: which Regions.
    """

    number: int
    at: datetime
    by: "Worker | None"
    what: str
    name: str
    arn: str
    told: Observed | None
    before: Looks | None
    after: Looks | None
    regions: tuple[str, ...] = ()
    recovery_days: int | None = None

    @property
    def new_version(self) -> str | None:
        """Id of the version that came of it, None where none did."""
        if self.after is None:
            return None
        new = self.after.versions - (self.before.versions if self.before is not None else frozenset())
        return self.after.current if self.after.current in new else None


class Ledger(FakeRemote):
    """AWS in memory with its whole history."""

    def __init__(self, *, now: Callable[[], datetime], on_write: Callable[[Write], None]) -> None:
        super().__init__(now=now)
        self.history: list[Write] = []
        self._on_write = on_write
        self._by: Worker | None = None
        self._told: Mapping[str, Observed | None] = {}

    @contextmanager
    def asked_by(self, worker: "Worker", told: Mapping[str, Observed | None]) -> Iterator[None]:
        """Attribute what happens within to a worker."""
        self._by, self._told = worker, told
        try:
            yield
        finally:
            self._by, self._told = None, {}

    # Positional names and keywords are those of the fake.

    def create(self, name: str, payload: Payload, **more: Any) -> WriteResult | ResourceExists:
        account, region = str(more["account"]), str(more["region"])
        before = self.find(name, account=account, region=region)
        return self._noted("create", before, lambda: super(Ledger, self).create(name, payload, **more), name=name)

    def put(self, target: FakeObject | None, payload: Payload, *, token: str) -> WriteResult | ResourceExists:
        return self._noted("put", target, lambda: super(Ledger, self).put(target, payload, token=token))

    def update(self, target: FakeObject | None, **more: Any) -> None:
        return self._noted("update", target, lambda: super(Ledger, self).update(target, **more))

    def restore(self, target: FakeObject | None) -> None:
        return self._noted("restore", target, lambda: super(Ledger, self).restore(target))

    def delete(self, target: FakeObject | None, *, recovery_days: int | None) -> None:
        return self._noted(
            "delete",
            target,
            lambda: super(Ledger, self).delete(target, recovery_days=recovery_days),
            days=recovery_days,
        )

    def replicate(self, target: FakeObject | None, regions: Mapping[str, str]) -> None:
        return self._noted(
            "replicate", target, lambda: super(Ledger, self).replicate(target, regions), regions=tuple(regions)
        )

    def remove_replicas(self, target: FakeObject | None, regions: Sequence[str]) -> None:
        return self._noted(
            "remove_replicas",
            target,
            lambda: super(Ledger, self).remove_replicas(target, regions),
            regions=tuple(regions),
        )

    def put_policy(self, target: FakeObject | None, policy: str) -> None:
        return self._noted("put_policy", target, lambda: super(Ledger, self).put_policy(target, policy))

    def outside_create(self, name: str, value: str | bytes = "theirs", **more: Any) -> FakeObject:
        return self._noted("made", None, lambda: super(Ledger, self).outside_create(name, value, **more), name=name)

    def outside_put(self, name: str, value: str | bytes, **more: Any) -> str:
        there = self.object(name)
        return self._noted("put", there, lambda: super(Ledger, self).outside_put(name, value, **more))

    def _noted(
        self,
        what: str,
        target: FakeObject | None,
        act: Callable[[], T],
        *,
        name: str | None = None,
        regions: tuple[str, ...] = (),
        days: int | None = None,
    ) -> T:
        before = None if target is None else looks(target)
        answer = act()
        after = self.find(name) if name is not None else target
        gone = after is None or (after.account, after.region, after.name) not in self._objects
        shown = after or target
        if shown is None:
            return answer
        write = Write(
            number=len(self.history),
            at=self.now(),
            by=self._by,
            what=what,
            name=shown.name,
            arn=shown.arn,
            told=self._told.get(shown.name),
            before=before,
            after=None if gone or after is None else looks(after),
            regions=regions,
            recovery_days=days,
        )
        self.history.append(write)
        self._on_write(write)
        return answer


def looks(there: FakeObject) -> Looks:
    """Return how an object looks now."""
    current = there.current
    return Looks(
        observed=there.observed(), value=None if current is None else current.value, versions=frozenset(there.versions)
    )
