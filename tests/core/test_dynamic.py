"""What a lease is made of: the recipe as it is when the lease is asked for."""

from dataclasses import fields, replace
from datetime import timedelta

from phasesync.core.dynamic import DynamicConfig, lease_spec_of
from phasesync.core.lease import LeaseSpec
from tests.support.values import HOUR, dynamic_config

MARKS = {"phasesync:instance": "0f0f", "phasesync:lease": "1ea5e"}
EVERYTHING = DynamicConfig(
    user_template="{{random}}",
    iam_path="/ci/",
    policy_arns=("arn:aws:iam::aws:policy/A", "arn:aws:iam::aws:policy/B"),
    groups=("devs",),
    permission_boundary="arn:aws:iam::aws:policy/Boundary",
    inline_policy="{}",
    tags={"team": "web"},
    role_arn="arn:aws:iam::111122223333:role/session",
    session_policy="[]",
    default_ttl=HOUR,
    max_ttl=4 * HOUR,
)


def test_an_order_is_all_that_the_recipe_says_of_a_user_with_name_life_and_marks() -> None:
    spec = lease_spec_of(EVERYTHING, name="ci-k3v9", ttl=timedelta(minutes=7), marks=MARKS)

    assert (spec.name, spec.ttl) == ("ci-k3v9", timedelta(minutes=7))
    assert spec.tags == {"team": "web", **MARKS}
    common = {one.name for one in fields(LeaseSpec)} - {"name", "ttl", "tags"}
    assert {name: getattr(spec, name) for name in common} == {name: getattr(EVERYTHING, name) for name in common}


def test_our_marks_win_over_tags_of_the_recipe() -> None:
    """No other tag names the owner of a user."""
    config = dynamic_config(tags={"phasesync:instance": "theirs", "team": "web"})
    assert lease_spec_of(config, name="x", ttl=HOUR, marks=MARKS).tags == {"team": "web", **MARKS}


def test_a_recipe_that_says_nothing_makes_an_order_of_nothing() -> None:
    config = replace(dynamic_config(), iam_path=None, policy_arns=())
    assert lease_spec_of(config, name="x", ttl=HOUR, marks={}) == LeaseSpec(name="x", ttl=HOUR)
