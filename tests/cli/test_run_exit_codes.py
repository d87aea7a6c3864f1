"""How `syncs run` ends, for scripts: one exit code for each way in which a run can end."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from phasesync.cli.text import exit_code_of_run
from phasesync.core.sync import OnDrift
from phasesync.errors import (
    CredentialRejectedError,
    DestinationRejectedError,
    DestinationUnavailableError,
    InterruptedRunError,
    OutcomeUnknownError,
    PermissionDeniedError,
    PhasesyncError,
    QuotaExceededError,
    ThrottledError,
)
from phasesync.store.tables import secret_versions
from tests.support.world import NAME, World

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"])


def nothing_to_do(world: World) -> None:
    world.run()


def first_write(world: World) -> None:
    pass


def held_by_the_guard(world: World) -> None:
    world.edit(URL=None, USER=None)


def drift_under_hold(world: World) -> None:
    world.configure(on_drift=OnDrift.HOLD)
    world.run()
    world.remote.outside_put(NAME, "theirs")


def contested(world: World) -> None:
    for _ in range(4):
        world.run()
        world.remote.outside_put(NAME, "theirs")


def conflict(world: World) -> None:
    world.remote.outside_create(NAME)


def service_owned(world: World) -> None:
    world.run()
    world.remote.outside_service(NAME)


def rotating(world: World) -> None:
    world.run()
    world.remote.outside_rotation(NAME)


def another_account(world: World) -> None:
    world.run()
    world.destinations.accounts[world.sync.credential_id] = "999999999999"


def unresolved(world: World) -> None:
    world.edit(URL="${MISSING}")


def oversize(world: World) -> None:
    world.edit(URL="x" * 70_000)


def ciphertext(world: World) -> None:
    with world.store.database.write() as connection:
        connection.execute(sa.update(secret_versions).values(value=b"\x00" * 40))


def failing(error: PhasesyncError) -> Callable[[World], None]:
    """The write ends with an error."""

    def scene(world: World) -> None:
        world.destinations.fail("create", error=error)

    return scene


@pytest.mark.parametrize(
    ("scene", "code"),
    [
        pytest.param(nothing_to_do, 0, id="unchanged"),
        pytest.param(first_write, 0, id="applied"),
        pytest.param(held_by_the_guard, 4, id="held"),
        pytest.param(drift_under_hold, 4, id="drift"),
        pytest.param(contested, 4, id="contested"),
        pytest.param(conflict, 4, id="conflict"),
        pytest.param(service_owned, 4, id="service"),
        pytest.param(rotating, 4, id="rotating"),
        pytest.param(another_account, 4, id="account"),
        pytest.param(unresolved, 1, id="unresolved"),
        pytest.param(oversize, 1, id="oversize"),
        pytest.param(failing(DestinationRejectedError("no")), 1, id="rejected"),
        pytest.param(failing(QuotaExceededError("too many")), 1, id="quota"),
        pytest.param(failing(OutcomeUnknownError("no answer")), 1, id="unknown"),
        pytest.param(ciphertext, 6, id="ciphertext"),
        pytest.param(failing(ThrottledError("slower")), 7, id="throttled"),
        pytest.param(failing(DestinationUnavailableError("no network")), 7, id="network"),
        pytest.param(failing(CredentialRejectedError("expired")), 7, id="credential"),
        pytest.param(failing(PermissionDeniedError(action="secretsmanager:CreateSecret")), 7, id="permission"),
        pytest.param(failing(InterruptedRunError()), 130, id="interrupted"),
    ],
)
def test_a_run_ends_with_the_exit_code_of_its_outcome(world: World, scene: Callable[[World], None], code: int) -> None:
    scene(world)

    assert exit_code_of_run(world.run()) == code
