"""The life of a write: one token a generation, spent by whoever comes after a crash."""

from dataclasses import replace

from phasesync.core.journal import (
    intend_restore,
    intend_write,
    next_generation,
    settle_by_evidence,
    settle_restore,
    settle_spent,
    settle_write,
)
from phasesync.core.remote import CURRENT, PREVIOUS, Action
from tests.support.values import (
    ARN,
    NOW,
    TOKEN,
    VERSION,
    entry,
    intent,
    new_entry,
    observed,
    payload,
)

OTHER = payload({"URL": "other"})


def test_a_write_takes_the_next_generation_and_keeps_it_until_settled() -> None:
    """A successor meets the same number."""
    intended = intend_write(entry(), Action.PUT, payload(), TOKEN, NOW)

    assert next_generation(entry()) == 2
    assert next_generation(intended) == 2
    assert next_generation(settle_write(intended, payload(), arn=ARN, version_id=TOKEN)) == 3


def test_a_token_counts_the_payloads_it_was_sent_with() -> None:
    """The same payload again does not count, another does."""
    first = intend_write(entry(), Action.PUT, payload(), TOKEN, NOW)
    again = intend_write(first, Action.PUT, payload(), TOKEN, NOW)
    other = intend_write(again, Action.PUT, OTHER, TOKEN, NOW)

    assert [one.intent.payloads for one in (first, again, other) if one.intent] == [1, 1, 2]


def test_evidence_settles_a_token_that_carried_one_payload() -> None:
    """The labelled version proves the write."""
    seen = observed(versions={TOKEN: frozenset({CURRENT}), VERSION: frozenset({PREVIOUS})})

    settled = settle_by_evidence(entry(intent=intent()), seen)

    assert settled.intent is None
    assert (settled.version_id, settled.generation, settled.fingerprint) == (TOKEN, 2, payload().fingerprint)


def test_evidence_does_not_settle_a_token_that_carried_two() -> None:
    """Either may have landed; only a put that AWS accepts tells."""
    seen = observed(versions={TOKEN: frozenset({CURRENT})})
    unsettled = entry(intent=intent(payloads=2))

    assert settle_by_evidence(unsettled, seen) is unsettled


def test_no_evidence_leaves_the_intent_open() -> None:
    """It may still land."""
    unsettled = entry(intent=intent())

    assert settle_by_evidence(unsettled, observed()) is unsettled
    assert settle_by_evidence(unsettled, None) is unsettled


def test_a_spent_token_tells_what_landed_only_when_it_carried_one_payload() -> None:
    """Of two it is not known which."""
    once = settle_spent(entry(intent=intent()), intent(), arn=ARN)
    twice = settle_spent(entry(intent=intent()), intent(payloads=2), arn=ARN)

    assert once.fingerprint == payload().fingerprint
    assert twice.fingerprint is None
    assert once.generation == twice.generation == 2


def test_a_landed_create_makes_the_object_known() -> None:
    """The journal learns its ARN from looking."""
    created = replace(new_entry(), intent=intent(action=Action.CREATE, generation=1))

    settled = settle_by_evidence(created, observed(versions={TOKEN: frozenset({CURRENT})}))

    assert settled.arn == ARN
    assert settled.written_before


def test_a_restore_does_not_hide_an_open_write() -> None:
    """The write is still to be settled after the restore."""
    with_write = entry(intent=intent())

    assert intend_restore(with_write, TOKEN, NOW) is with_write
    assert settle_restore(with_write) is with_write


def test_a_restore_is_settled_by_looking() -> None:
    """It carries no token: an object that is not scheduled for deletion was restored."""
    intended = intend_restore(entry(), TOKEN, NOW)

    assert intended.intent is not None
    assert settle_by_evidence(intended, observed(deleted_at=NOW)) is intended
    assert settle_by_evidence(intended, observed()).intent is None
    assert settle_by_evidence(intended, observed()).generation == entry().generation
