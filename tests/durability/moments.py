"""A world at one moment, to go back to: its database, its AWS and its clock. Quicker than arranging it again."""

from dataclasses import dataclass, replace
from datetime import timedelta

from phasesync.core.remote import TAG_DELETION
from tests.durability.machine.stage import Rows, read_rows, write_rows
from tests.fakes.remote import FakeObject
from tests.support.world import World

_Objects = dict[tuple[str, str, str], FakeObject]


@dataclass(frozen=True)
class Moment:
    """What was, when it was kept."""

    rows: Rows
    objects: _Objects
    passed: timedelta


def keep(world: World) -> Moment:
    """Remember a world as it is."""
    return Moment(read_rows(world.store), _copied(world.remote.objects), world.clock.passed)


def go_back(world: World, moment: Moment) -> None:
    """Make a world what it was; whoever was at work on it is gone."""
    write_rows(world.store, moment.rows)
    there = world.remote.objects
    there.clear()
    there.update(_copied(moment.objects))
    world.clock.passed = moment.passed
    world.destinations.log.clear()
    world.on_step = None


def picture(world: World) -> dict[str, tuple[object, ...]]:
    """
    Return all that readers and operators see at AWS, with how many versions each object got.

    The mark of a deletion has another token after a crash, as the id of a version may have.
    """
    return {
        f"{region} {name}": (
            None if there.current is None else there.current.value.reveal(),
            there.description,
            there.kms_key,
            sorted((key, None if key == TAG_DELETION else value) for key, value in there.tags.items()),
            sorted(there.replicas),
            there.resource_policy,
            there.deleted_at is not None,
            len(there.versions),
        )
        for (_, region, name), there in sorted(world.remote.objects.items())
    }


def _copied(objects: _Objects) -> _Objects:
    return {
        where: replace(
            there,
            tags=dict(there.tags),
            replicas=dict(there.replicas),
            versions={key: replace(one, labels=set(one.labels)) for key, one in there.versions.items()},
        )
        for where, there in objects.items()
    }
