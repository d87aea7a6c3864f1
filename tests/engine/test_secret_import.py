"""What an import changes in a folder."""

import pytest

from phasesync.core.model import SecretValue, SecretVersion
from phasesync.core.secret_json import FileEntry
from phasesync.engine.import_values import check_not_emptied, plan_import
from phasesync.errors import InvalidInputError
from tests.support.values import NOW


def entries(**texts: str) -> dict[str, FileEntry]:
    return {key: FileEntry(value=SecretValue(text)) for key, text in texts.items()}


def folder(comment: str = "", **texts: str) -> dict[str, SecretVersion]:
    return {
        key: SecretVersion(
            path="/",
            key=key,
            version=1,
            value=SecretValue(text),
            comment=comment,
            changed_at=NOW,
            changed_by="me",
            origin="set",
        )
        for key, text in texts.items()
    }


def test_keys_are_added_changed_or_left_and_others_stay() -> None:
    plan = plan_import(entries(NEW="1", B="2", A="1"), folder(A="1", B="1", OTHER="1"))

    assert (plan.added, plan.changed, plan.kept, plan.removed, plan.unchanged) == (("NEW",), ("B",), (), (), 1)


def test_pruning_removes_the_others() -> None:
    assert plan_import(entries(A="1"), folder(A="1", Z="1", Y="1"), prune=True).removed == ("Y", "Z")


def test_where_the_store_wins_a_differing_key_is_kept() -> None:
    plan = plan_import(entries(A="2", B="1"), folder(A="1", B="1"), keep_differing=True)

    assert (plan.changed, plan.kept, plan.changes_anything) == ((), ("A",), False)


def test_a_comment_counts_only_where_the_file_has_one() -> None:
    before = folder(comment="why", A="1")

    assert plan_import(entries(A="1"), before).changed == ()
    assert plan_import({"A": FileEntry(value=SecretValue("1"), comment="")}, before).changed == ("A",)


def test_new_keys_follow_the_rule_and_old_ones_stay_importable() -> None:
    with pytest.raises(InvalidInputError):
        plan_import(entries(**{" KEY": "1"}), {})
    assert plan_import(entries(**{" KEY": "2"}), folder(**{" KEY": "1"})).changed == (" KEY",)


def test_keys_that_become_empty_are_named() -> None:
    assert plan_import(entries(A="", B="", C="1"), folder(B="1")).emptied == ("A", "B")


def test_an_import_of_nothing_may_not_remove_everything() -> None:
    with pytest.raises(InvalidInputError, match="stdin has no keys"):
        check_not_emptied(plan_import({}, folder(A="1"), prune=True), source="stdin", folder="shop/prod /")
    check_not_emptied(plan_import({}, folder(A="1")), source="stdin", folder="shop/prod /")


def test_no_plan_shows_a_value() -> None:
    assert "canary" not in repr(plan_import(entries(A="canary"), {}))
