"""Tags, by AWS's rules."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.loaders import Loader
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.tags import check_tags
from phasesync.errors import InvalidInputError

SHAPES: dict[str, Any] = {
    service: Loader().load_service_model(service, "service-2")["shapes"] for service in ("iam", "secretsmanager")
}
texts = st.text(st.characters(categories=["L", "N", "Z"], include_characters="_.:/=+-@"), max_size=128)
keys = texts.filter(lambda text: text != "" and not text.lower().startswith(("aws:", "phasesync:")))


def check(tags: dict[str, str], *, ours: int = 2, tells_case: bool = True) -> None:
    check_tags(tags, ours=ours, tells_case=tells_case)


def test_the_lengths_are_those_of_the_api_models() -> None:
    assert SHAPES["iam"]["tagKeyType"]["max"] == SHAPES["secretsmanager"]["TagKeyType"]["max"] == 128
    assert SHAPES["iam"]["tagValueType"]["max"] == SHAPES["secretsmanager"]["TagValueType"]["max"] == 256
    assert SHAPES["iam"]["tagKeyType"]["pattern"] == r"[\p{L}\p{Z}\p{N}_.:/=+\-@]+"


@given(st.dictionaries(keys, texts, max_size=5))
def test_what_aws_takes_is_taken(tags: dict[str, str]) -> None:
    check(tags)


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"team": "R&D"}, "the character '&'"),
        ({"a,b": "x"}, "the character ','"),
        ({"team": "a\nb"}, "does not take in tags"),
        ({"team": "a\u200bb"}, "does not take in tags"),
        ({"team": "a\ud800"}, "does not take in tags"),
        ({"aws:x": "y"}, "the prefix aws: is reserved"),
        ({"AWS:x": "y"}, "the prefix aws: is reserved"),
        ({"phasesync:sync": "y"}, "phasesync: is reserved, it is ours"),
        ({"": "y"}, "too long or has no key"),
        ({"x" * 129: "y"}, "too long"),
        ({"x": "y" * 257}, "too long"),
        ({f"t{number}": "" for number in range(49)}, "AWS takes 50 tags, and 2 of them are ours"),
    ],
)
def test_what_aws_would_refuse_is_refused_here(tags: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        check(tags)


def test_case_makes_two_keys_at_secrets_manager_and_one_at_iam() -> None:
    check({"k": "x", "K": "y"})
    with pytest.raises(InvalidInputError, match="are the same tag to AWS"):
        check({"k": "x", "K": "y"}, tells_case=False)
