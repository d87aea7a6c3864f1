"""Policies in parts that IAM takes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.iam.document import MANAGED_POLICY_CHARACTERS, parts_of, size_of
from phasesync.core.sync import OnRemove
from tests.core.iam.test_sync_policy import KEY, a_sync, policy


def grants(*documents: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Return every (action, resource, condition), with the secrets that a key is for one by one."""
    found = set()
    for statement in (one for document in documents for one in document["Statement"]):
        condition = json.loads(json.dumps(statement.get("Condition", {})))
        contexts = condition.get("StringLike", {}).pop("kms:EncryptionContext:SecretARN", [""])
        for action in statement["Action"]:
            for resource in statement["Resource"]:
                found |= {(action, resource, json.dumps([condition, context])) for context in contexts}
    return found


def many(number: int, length: int = 20) -> dict[str, Any]:
    syncs = [
        a_sync(
            remote_name=f"shop/{index:0{length}}",
            kms_key=KEY if index % 2 else None,
            on_remove=OnRemove.DELETE if index % 3 else OnRemove.RETAIN,
        )
        for index in range(number)
    ]
    return policy(*syncs)


def test_a_policy_that_fits_stays_whole():
    document = many(3)
    assert size_of(document) <= MANAGED_POLICY_CHARACTERS
    assert parts_of(document) == [document]


def test_white_space_does_not_count():
    assert size_of({"Version": "2012-10-17"}) == len('{"Version":"2012-10-17"}')


@given(number=st.integers(1, 120), length=st.integers(1, 400), limit=st.integers(1_500, 7_000))
def test_the_parts_fit_and_allow_together_what_the_whole_allows(number: int, length: int, limit: int):
    document = many(number, length)
    parts = parts_of(document, limit)
    assert all(size_of(part) <= limit for part in parts)
    assert grants(*parts) == grants(document)
    for part in parts:
        sids = [statement["Sid"] for statement in part["Statement"]]
        assert len(set(sids)) == len(sids)


def test_parts_are_filled():
    """As few parts as that: a role takes ten managed policies."""
    document = many(100)
    assert len(parts_of(document)) <= size_of(document) / MANAGED_POLICY_CHARACTERS * 1.2 + 1
