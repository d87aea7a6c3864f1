"""Dynamic secrets and leases on the disk: no policy, tag, key, user name or reason in any form."""

from pathlib import Path

import sqlalchemy as sa

from phasesync.core.lease import begin_issue, issued, revoke_failed
from phasesync.core.lease_claim import Entry, LeaseEvent
from phasesync.core.model import SecretValue
from phasesync.demo.canary import CANARY_ACCESS_KEY_ID, CANARY_KEY, CANARY_SECRET_ACCESS_KEY, find
from phasesync.store import Store, tables
from tests.support.stores import LONG, TTL, add_dynamic, end_lease, request_lease, revoke_lease
from tests.support.values import ACCOUNT

POLICY = '{"Statement":[{"Sid":"cnry-p0licy-51ac"}]}'
TAG, TAG_VALUE = "cnry-tag-90fe", "cnry-tag-valüe-77d0"
GROUP = "cnry-gr0up-12ab"
USER_ARN = "arn:aws:iam::111122223333:user/cnry-us3r-4e1f"
DETAIL, REASON, ERROR = "cnry-deta1l-8812", "cnry-reas0n-6c3b", "cnry-err0r-2b7d"
CANARIES = (
    "cnry-p0licy-51ac",
    TAG,
    TAG_VALUE,
    GROUP,
    "cnry-us3r-4e1f",
    DETAIL,
    "by ada",
    ERROR,
    CANARY_KEY,
    CANARY_ACCESS_KEY_ID,
    CANARY_SECRET_ACCESS_KEY,
)
KEPT = {
    "access_key_id": SecretValue(CANARY_ACCESS_KEY_ID),
    "secret_access_key": SecretValue(CANARY_SECRET_ACCESS_KEY),
}


def dump(store: Store) -> bytes:
    """Every row of the tables of dynamic secrets, and every byte of a SQLite database with its side files."""
    contents: list[bytes] = []
    with store.database.read() as connection:
        for table in (tables.dynamic_secrets, tables.leases, tables.lease_events):
            for row in connection.execute(sa.select(table)):
                contents += [value if isinstance(value, bytes) else str(value).encode() for value in row]
    if store.database.is_sqlite:
        folder = Path(str(store.database.url.database)).parent
        files = sorted(folder.glob("phasesync.db*"))
        assert files
        contents += [path.read_bytes() for path in files]
    return b"\n".join(contents)


def fill(store: Store) -> str:
    """Put canaries everywhere that someone's words or keys can go; return the id of the lease that has them."""
    dynamic = add_dynamic(
        store,
        inline_policy=POLICY,
        tags={TAG: TAG_VALUE},
        groups=(GROUP,),
        keys={"access_key_id": CANARY_KEY},
    )
    leases = store.leases(ttl=TTL)
    claim, lease = request_lease(store, dynamic)
    leases.save(claim, lambda lease, now: begin_issue(lease, ACCOUNT, now))
    leases.save(
        claim,
        lambda lease, now: issued(lease, now, principal=USER_ARN, access_key_id=CANARY_ACCESS_KEY_ID, kept=True),
        entry=Entry(event=LeaseEvent.ISSUED, actor="ada", detail=DETAIL),
        keep=KEPT,
        done=True,
    )
    return lease.id


def test_nothing_of_a_lease_is_on_the_disk_in_clear(store: Store) -> None:
    lease = store.leases(ttl=TTL).get(fill(store))
    failed = revoke_lease(store, lease)
    store.leases(ttl=TTL).save(failed, lambda lease, now: revoke_failed(lease, ERROR, LONG, now), done=True)

    data = dump(store)

    assert find(data, (*CANARIES, lease.spec.name)) == []
    assert b"aws-iam-user" in data, "the search sees what is there"
    assert lease.id.encode() in data


def test_nothing_is_left_in_clear_after_its_end_either(store: Store) -> None:
    lease = store.leases(ttl=TTL).get(fill(store))
    end_lease(store, lease)
    store.leases(ttl=TTL).prune(older_than=-LONG)
    store.dynamics.remove("ci")
    assert find(dump(store), (*CANARIES, lease.spec.name)) == []


def test_everything_that_was_hidden_is_still_there(store: Store) -> None:
    lease = store.leases(ttl=TTL).get(fill(store))
    dynamic = store.dynamics.get("ci")
    assert (dynamic.config.inline_policy, dynamic.config.groups) == (POLICY, (GROUP,))
    assert dynamic.config.tags == {TAG: TAG_VALUE}
    assert lease.spec.tags[TAG] == TAG_VALUE
    assert (lease.access_key_id, lease.principal) == (CANARY_ACCESS_KEY_ID, USER_ARN)
    assert [entry.detail for entry in store.leases(ttl=TTL).records(lease.id)] == [DETAIL]
    kept = store.leases(ttl=TTL).reuse(dynamic, actor="bob")
    assert kept is not None
    assert kept.outputs == KEPT


def test_values_that_went_with_their_lease_are_in_no_row(store: Store) -> None:
    lease = store.leases(ttl=TTL).get(fill(store))
    end_lease(store, lease)
    with store.database.read() as connection:
        assert connection.execute(sa.select(tables.leases.c.kept, tables.leases.c.ended_at)).one().kept is None
