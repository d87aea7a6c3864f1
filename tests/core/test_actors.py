"""Which actors are one person."""

import pytest

from phasesync.core.actors import BY_ACTOR, BY_OS_USER, is_same_person, person_of


@pytest.mark.parametrize(
    "other",
    [
        "ada",
        "Ada",
        "ADA",
        " ada",
        "ada ",
        "ada\u00a0",
        "ada\u3000",
        "a\u200bda",
        "ada\ufeff",
        "\u202eada\u202c",
        "ada\ufe0f",
        "a\u00adda",
        "\uff41da",
        "\U0001d41ada",
    ],
    ids=ascii,
)
def test_how_a_name_is_written_makes_nobody_another_person(other: str) -> None:
    assert is_same_person(f"deploy as {other}", "deploy as ada")


@pytest.mark.parametrize(
    ("one", "other"), [("Stra\u00dfe", "STRASSE"), ("\u1e9b\u0323", "\u1e69"), ("\u0130x", "i\u0307X")]
)
def test_folding_ends_in_one_form(one: str, other: str) -> None:
    assert is_same_person(one, other)
    assert person_of(person_of(one)) == person_of(one)


@pytest.mark.parametrize(
    "other", ["grace", "adam", "a da", "\u00e1da", "\u0430da", "ad\u0430", "deploy as ada"], ids=ascii
)
def test_other_letters_make_another_person(other: str) -> None:
    assert not is_same_person("ada", other)


def test_an_account_of_the_operating_system_is_one_person_if_the_settings_say_so() -> None:
    assert is_same_person("deploy as ada", "deploy as grace", BY_OS_USER)
    assert not is_same_person("deploy as ada", "other as ada", BY_OS_USER)
    assert not is_same_person("deploy as ada", "deploy as grace", BY_ACTOR)
