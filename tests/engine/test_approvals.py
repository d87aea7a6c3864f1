"""Whatever the guard holds, the digest that a plan shows releases it: once, and it alone."""

from collections.abc import Callable

import pytest

from phasesync.core.model import SecretValue, SecretWrite, ValueType
from phasesync.core.run import Outcome
from phasesync.core.sync import Layout, OnDrift, OnRemove
from phasesync.errors import IllegalTransitionError
from tests.support.operator import operations
from tests.support.stores import ACTOR
from tests.support.world import NAME, World

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"])


def per_key(world: World, **config: object) -> None:
    """Have the sync write one object a key."""
    world.configure(layout=Layout.PER_KEY, remote_name=None, name_template="shop/{key}", **config)


def drift(world: World) -> None:
    world.configure(on_drift=OnDrift.HOLD)
    world.run()
    world.remote.outside_put(NAME, "theirs")


def contested(world: World) -> None:
    world.run()
    for _ in range(3):
        world.remote.outside_put(NAME, "theirs")
        world.run()
    world.remote.outside_put(NAME, "theirs")


def source_empty(world: World) -> None:
    world.edit(URL=None, USER=None)


def moves(world: World) -> None:
    world.run()
    world.configure(remote_name="shop/other")


def emptying(world: World) -> None:
    world.run()
    world.edit(URL=None, USER=None)


def shrinking(world: World) -> None:
    world.edit(A="a", B="b", C="c")
    world.run()
    world.edit(URL=None, USER=None, A=None, B=None)


def binary(world: World) -> None:
    per_key(world)
    world.run()
    value = SecretValue(b"\x00\xff", ValueType.BINARY)
    writes = [SecretWrite(path="/", key="URL", value=value)]
    world.store.secrets.edit("shop", "production", actor=ACTOR, origin="set", writes=writes)


def deletions(world: World) -> None:
    per_key(world, on_remove=OnRemove.DELETE, grace=0 * world.sync.config.grace)
    world.edit(A="a", B="b")
    world.run()
    world.edit(URL=None, USER=None, A=None)


RULES: list[tuple[Callable[[World], None], str]] = [
    (drift, "drift"),
    (contested, "contested"),
    (source_empty, "source-empty"),
    (moves, "moves"),
    (emptying, "emptying"),
    (shrinking, "shrinking"),
    (binary, "binary"),
    (deletions, "deletions"),
]


@pytest.mark.parametrize(("scene", "rule"), RULES)
def test_an_approval_releases_what_is_held(world: World, scene: Callable[[World], None], rule: str) -> None:
    """Held until then, also when a person asks for a run; carried out afterwards, and the approval is used up."""
    scene(world)
    assert world.run().outcome is Outcome.HELD
    digest = operations(world).plan("web").guarded.digest

    held = operations(world).approve("web", digest or "", actor=ACTOR)

    assert {str(one.rule) for one in held} == {rule}
    assert operations(world).plan("web").guarded.held == ()
    run = world.run()
    assert (run.outcome, run.error) == (Outcome.APPLIED, None)
    assert {one.remote_name for one in run.changes if one.outcome is Outcome.APPLIED} >= {
        one.change.remote_name for one in held
    }
    assert world.sync.approved_digest is None


def test_several_held_objects_are_approved_together(world: World) -> None:
    deletions(world)
    world.run()
    report = operations(world).plan("web")

    held = operations(world).approve("web", report.guarded.digest or "", actor=ACTOR)

    assert [one.change.remote_name for one in held] == ["shop/A", "shop/URL", "shop/USER"]


def test_another_digest_is_refused_and_says_which_one_it_is(world: World) -> None:
    emptying(world)

    with pytest.raises(IllegalTransitionError, match=operations(world).plan("web").guarded.digest or "none"):
        operations(world).approve("web", "0" * 16, actor=ACTOR)


def test_nothing_held_is_nothing_to_approve(world: World) -> None:
    world.run()

    with pytest.raises(IllegalTransitionError, match="nothing"):
        operations(world).approve("web", "0" * 16, actor=ACTOR)
