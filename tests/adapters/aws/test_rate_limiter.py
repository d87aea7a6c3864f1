"""Calls wait for their slots: fairly among syncs, with a limit, not beyond the daemon's end, slower when throttled."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import botocore.session
import pytest

from phasesync.adapters import issuers
from phasesync.adapters.aws import roles
from phasesync.adapters.aws.rate_limiter import RateLimiter, Slot, Tenant
from phasesync.adapters.aws.rate_limits import IAM, RATE_GROUPS, SECRETS_MANAGER, RateGroup
from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.aws_secrets_manager.destination import AwsSecretsManager
from phasesync.emulator import Answer
from phasesync.errors import InterruptedRunError, ThrottledError
from tests.support.aws import REGION, Aws
from tests.support.aws_builders import (
    INSTANCE,
    HandClock,
    access_key_credential,
    no_sources,
    payload,
    role_credential,
    token,
)
from tests.support.waiting import wait_until

PUT = "secretsmanager:PutSecretValue"
CREATE = "secretsmanager:CreateSecret"
BURST = 10
"""Calls of a group of 50 a second that go out at once: a fifth of it; the pace is 40."""
NO_TIME = timedelta(0)
WITHOUT_FIGURE = {
    f"secretsmanager:{name}"
    for name in ("AssociateCrossAccountReplica", "DisassociateCrossAccountReplica", "ListResourcePolicies")
}
"""In the SDK, without a quota in the guide; nothing here calls them."""


@pytest.fixture
def clock() -> HandClock:
    return HandClock(datetime(2030, 1, 1, tzinfo=UTC))


@pytest.fixture
def rate_limiter(clock: HandClock) -> RateLimiter:
    return RateLimiter(clock.monotonic)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=64) as pool:
        yield pool


def take(
    rate_limiter: RateLimiter, tenant: str = "web", *, action: str = PUT, account: str = "1", region: str = REGION
) -> Slot:
    """Take a slot without a wait."""
    return rate_limiter.take(action, account=account, region=region, tenant=tenant, max_wait=NO_TIME)


def left(rate_limiter: RateLimiter, **where: str) -> int:
    """Use up what there is; return how much it was."""
    number = 0
    while True:
        try:
            take(rate_limiter, **where)
        except ThrottledError:
            return number
        number += 1


# --- the table


def test_every_call_of_secrets_manager_is_in_one_group() -> None:
    """The SDK's own model lists them, so that a new one is noticed when the SDK is renewed."""
    from botocore.session import Session

    model = Session().get_service_model("secretsmanager")
    listed = [action for group in SECRETS_MANAGER for action in group.actions]

    assert len(set(listed)) == len(listed)
    assert {f"secretsmanager:{name}" for name in model.operation_names} - set(listed) == WITHOUT_FIGURE
    assert set(listed) <= {f"secretsmanager:{name}" for name in model.operation_names}
    assert len({group.name for group in RATE_GROUPS}) == len(RATE_GROUPS)


def test_every_call_of_iam_that_we_make_is_in_a_group() -> None:
    """Read from the source: what is called and in no group would be held back by nothing."""
    folder = Path(issuers.__file__).parent
    operations = botocore.session.get_session().get_service_model("iam").operation_names
    called = {
        name
        for file in folder.glob("*.py")
        for name in re.findall(r'"([A-Z][A-Za-z]+)"', file.read_text())
        if name in operations
    }
    called |= set(re.findall(r'"iam:([A-Za-z]+)"', Path(roles.__file__).read_text()))

    grouped = {action.removeprefix("iam:") for group in IAM for action in group.actions}

    assert len(called) > 20
    assert called == grouped


def test_calls_of_a_group_share_one_quota_and_other_groups_have_their_own(rate_limiter: RateLimiter) -> None:
    assert left(rate_limiter, action="secretsmanager:UpdateSecret") == BURST
    assert left(rate_limiter, action=PUT) == 0
    assert left(rate_limiter, action=CREATE) == BURST
    assert left(rate_limiter, action="secretsmanager:ListSecrets") == 2 * BURST


def test_accounts_and_regions_are_counted_apart(rate_limiter: RateLimiter) -> None:
    assert left(rate_limiter, account="1", region="eu-west-1") == BURST
    assert left(rate_limiter, account="2", region="eu-west-1") == BURST
    assert left(rate_limiter, account="1", region="us-east-1") == BURST
    assert left(rate_limiter, account="1", region="eu-west-1") == 0


def test_a_service_without_regions_is_counted_in_one_place(clock: HandClock) -> None:
    iam = RateGroup(name="iam:users", per_second=50, actions=("iam:CreateUser",), region="us-east-1")
    rate_limiter = RateLimiter(clock.monotonic, groups=[iam])

    assert left(rate_limiter, action="iam:CreateUser", region="eu-west-1") == BURST
    assert left(rate_limiter, action="iam:CreateUser", region="us-east-1") == 0


# --- shares


def test_two_daemons_share_a_quota(rate_limiter: RateLimiter, clock: HandClock) -> None:
    """From the moment on that one hears of the other, and back again when it is alone."""
    rate_limiter.share_among(2)
    assert left(rate_limiter) == BURST / 2
    clock.turn(timedelta(seconds=0.1))
    assert left(rate_limiter) == 2

    rate_limiter.share_among(1)
    clock.turn(timedelta(seconds=0.1))
    assert left(rate_limiter) == 4


def test_what_was_saved_for_one_is_cut_when_a_second_comes(rate_limiter: RateLimiter) -> None:
    take(rate_limiter)
    rate_limiter.share_among(5)

    assert left(rate_limiter) == BURST / 5


# --- throttling


def test_being_throttled_halves_the_pace_until_it_has_recovered(rate_limiter: RateLimiter, clock: HandClock) -> None:
    slot = take(rate_limiter)
    slot.throttled()
    assert left(rate_limiter) == 0, "AWS has none either"

    clock.turn(timedelta(seconds=0.101))
    assert left(rate_limiter) == 2, "20 calls a second"

    clock.turn(timedelta(minutes=1))
    assert left(rate_limiter) == BURST
    clock.turn(timedelta(seconds=0.1))
    assert left(rate_limiter) == 4, "40 calls a second"


def test_several_calls_under_way_slow_it_once(rate_limiter: RateLimiter, clock: HandClock) -> None:
    slots = [take(rate_limiter) for _ in range(8)]
    for slot in slots:
        slot.throttled()

    clock.turn(timedelta(seconds=0.101))

    assert left(rate_limiter) == 2


@pytest.fixture
def hurried_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK does not wait between its attempts."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))


@pytest.fixture
def destination(aws: Aws, rate_limiter: RateLimiter, hurried_sdk: None) -> Iterator[AwsSecretsManager]:
    clock = HandClock(datetime.now(UTC))
    clients = AwsClients(
        source_of=no_sources, clock=clock, instance_id=INSTANCE, endpoint_url=aws.server.url, rate_limiter=rate_limiter
    )
    credential = access_key_credential(account="123456789012")
    yield AwsSecretsManager(clients, credential, REGION, instance_id=INSTANCE, tenant="web")
    clients.close()


def create(destination: AwsSecretsManager, name: str = "web") -> object:
    return destination.create(
        name, payload(), token=token(1), description=None, kms_key=None, tags={"phasesync:instance": INSTANCE}
    )


@pytest.mark.parametrize("attempts", [1, 3], ids=["the SDK's repeat went through", "no attempt went through"])
def test_a_throttled_attempt_slows_the_bucket_of_its_account(
    aws: Aws, destination: AwsSecretsManager, rate_limiter: RateLimiter, clock: HandClock, attempts: int
) -> None:
    """Both count: the SDK hides a repeat that went through, and its next one may not."""
    aws.server.fail("CreateSecret", Answer(code="ThrottlingException"), times=attempts)
    if attempts == 3:
        with pytest.raises(ThrottledError):
            create(destination)
    else:
        create(destination)
    assert left(rate_limiter, action=CREATE, account="123456789012") == 0

    clock.turn(timedelta(seconds=0.101))

    assert left(rate_limiter, action=CREATE, account="123456789012") == 2


def test_a_hard_quota_is_no_throttling(aws: Aws, destination: AwsSecretsManager, rate_limiter: RateLimiter) -> None:
    """The SDK takes LimitExceededException for throttling; here it means too many secrets."""
    aws.server.fail("CreateSecret", Answer(code="LimitExceededException"), times=3)
    with pytest.raises(Exception, match="hard quota"):
        create(destination)

    assert left(rate_limiter, action=CREATE, account="123456789012") == BURST - 1


def test_a_call_without_a_slot_is_not_made(aws: Aws, destination: AwsSecretsManager, rate_limiter: RateLimiter) -> None:
    left(rate_limiter, action=CREATE, account="123456789012")
    rate_limiter.stop()

    with pytest.raises(InterruptedRunError):
        create(destination)

    assert destination.calls == 0
    assert aws.boto("secretsmanager").list_secrets()["SecretList"] == []


def test_calls_count_for_the_account_that_the_role_is_in(aws: Aws, rate_limiter: RateLimiter) -> None:
    """AWS throttles the caller, and with a role that is the role's account, not ours."""
    credential = role_credential(aws.role(account="222222222222"))
    clients = AwsClients(
        source_of=no_sources,
        clock=HandClock(datetime.now(UTC)),
        instance_id=INSTANCE,
        endpoint_url=aws.server.url,
        rate_limiter=rate_limiter,
    )
    assert clients.account_key(credential) == credential.id, "as long as nobody knows"
    create(AwsSecretsManager(clients, credential, REGION, instance_id=INSTANCE))
    clients.close()

    assert left(rate_limiter, action=CREATE, account="222222222222") == BURST - 1


# --- fairness


def test_one_of_300_does_not_starve_50_of_one(clock: HandClock, threads: ThreadPoolExecutor) -> None:
    """They come when the calls of the large one wait already, and each gets its slot within one rotation."""
    rate_limiter = RateLimiter(clock.monotonic, max_wait=timedelta(hours=1))
    served: list[str] = []
    noting = threading.Lock()

    def call(tenant: str) -> None:
        rate_limiter.take(PUT, account="1", region=REGION, tenant=tenant)
        with noting:
            served.append(tenant)

    def large() -> None:
        for _ in range(300 // 8):
            call("large")

    left(rate_limiter)
    calls = [threads.submit(large) for _ in range(8)]
    wait_until(lambda: rate_limiter.waiting == 8, what="the large one waits with all of its calls")
    calls += [threads.submit(call, f"small-{number}") for number in range(50)]
    wait_until(lambda: rate_limiter.waiting == 58, what="all wait")
    _let_time_pass(clock, until=lambda: all(future.done() for future in calls))
    for future in calls:
        future.result()

    before_the_last_small = len(served) - next(at for at, who in enumerate(reversed(served)) if who != "large")
    rounds = before_the_last_small - 50
    assert rounds <= 3, f"the large one was served {rounds} times before the last small one"
    assert served.count("large") == 296


def _let_time_pass(clock: HandClock, *, until: Callable[[], bool]) -> None:
    def passed() -> bool:
        clock.turn(timedelta(milliseconds=50))
        return until()

    wait_until(passed, what="the end of all calls")


def test_calls_of_one_sync_keep_their_order(
    rate_limiter: RateLimiter, clock: HandClock, threads: ThreadPoolExecutor
) -> None:
    left(rate_limiter)
    served: list[int] = []
    waiting: list[Future[None]] = []

    def call(number: int) -> None:
        rate_limiter.take(PUT, account="1", region=REGION, tenant="web")
        served.append(number)

    for number in range(4):
        waiting.append(threads.submit(call, number))
        wait_until(lambda: rate_limiter.waiting == len(waiting), what="it waits")
    while waiting:
        clock.turn(timedelta(seconds=1 / 40))
        waiting.pop(0).result(timeout=10)

    assert served == [0, 1, 2, 3]


def test_who_comes_does_not_pass_who_waits(
    rate_limiter: RateLimiter, clock: HandClock, threads: ThreadPoolExecutor
) -> None:
    """Although there is a token just then."""
    left(rate_limiter)
    first = threads.submit(rate_limiter.take, PUT, account="1", region=REGION, tenant="first")
    wait_until(lambda: rate_limiter.waiting == 1, what="it waits")
    clock.turn(timedelta(seconds=1 / 40))

    with pytest.raises(ThrottledError):
        take(rate_limiter, "second")

    first.result(timeout=10)


# --- the limit of a wait


def test_no_call_waits_longer_than_the_limit(
    rate_limiter: RateLimiter, clock: HandClock, threads: ThreadPoolExecutor
) -> None:
    """The run ends then, and is tried again; the place in the line is free."""
    left(rate_limiter)
    rate_limiter.share_among(1_000)
    waiting = [threads.submit(rate_limiter.take, PUT, account="1", region=REGION, tenant=name) for name in "abc"]
    wait_until(lambda: rate_limiter.waiting == 3, what="they wait")

    clock.turn(timedelta(seconds=10))
    rate_limiter.share_among(1_000)  # wakes the first, the others follow

    for future in waiting:
        with pytest.raises(ThrottledError, match="waited 10 s for a call of secretsmanager:PutSecretValue") as caught:
            future.result(timeout=15)
        assert caught.value.retry_after == timedelta(seconds=10)
    assert rate_limiter.waiting == 0


def test_a_slot_that_comes_too_late_is_not_taken(
    rate_limiter: RateLimiter, clock: HandClock, threads: ThreadPoolExecutor
) -> None:
    """A frozen process wakes up: its claim may be another's now."""
    left(rate_limiter)
    frozen = threads.submit(rate_limiter.take, PUT, account="1", region=REGION, tenant="frozen")
    wait_until(lambda: rate_limiter.waiting == 1, what="it waits")

    clock.turn(timedelta(hours=1))

    with pytest.raises(ThrottledError):
        frozen.result(timeout=10)
    assert left(rate_limiter) == BURST, "nothing was spent on it"


def test_once_in_vain_a_run_waits_no_more() -> None:
    """A run of 300 calls would otherwise wait 300 times in vain; the next run is patient again."""
    rate_limiter = RateLimiter(max_wait=timedelta(milliseconds=1))
    rate_limiter.share_among(1_000)
    left(rate_limiter)
    hurried = Tenant(rate_limiter, "web")
    with pytest.raises(ThrottledError, match="waited"):
        hurried.take(PUT, account="1", region=REGION)

    with pytest.raises(ThrottledError, match="no call of secretsmanager:PutSecretValue is left"):
        hurried.take(PUT, account="1", region=REGION)
    hurried.take(PUT, account="2", region=REGION)


def test_a_stop_ends_every_wait_at_once(rate_limiter: RateLimiter, threads: ThreadPoolExecutor) -> None:
    """SIGTERM: what waits has called nothing yet, and the next start does it. Time stands still here."""
    left(rate_limiter)
    left(rate_limiter, account="2")
    waiting = [
        threads.submit(rate_limiter.take, PUT, account=account, region=REGION, tenant=name)
        for account in "12"
        for name in "abc"
    ]
    wait_until(lambda: rate_limiter.waiting == 6, what="they wait")

    rate_limiter.stop()

    for future in waiting:
        with pytest.raises(InterruptedRunError):
            future.result(timeout=10)
    assert rate_limiter.waiting == 0
    take(rate_limiter, account="3")


# --- bounds


def test_buckets_that_nobody_uses_are_dropped(clock: HandClock, threads: ThreadPoolExecutor) -> None:
    """One at which someone waits stays, however long ago it was used."""
    rate_limiter = RateLimiter(clock.monotonic, max_buckets=2)
    left(rate_limiter, account="waited for")
    waiting = threads.submit(rate_limiter.take, PUT, account="waited for", region=REGION, tenant="web")
    wait_until(lambda: rate_limiter.waiting == 1, what="it waits")
    for account in ("2", "3", "4"):
        assert left(rate_limiter, account=account) == BURST

    assert rate_limiter.waiting == 1
    assert left(rate_limiter, account="2") == BURST, "dropped, so it is full again"
    clock.turn(timedelta(seconds=1 / 40))
    waiting.result(timeout=10)
