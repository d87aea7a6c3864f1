"""Resolving a folder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.model import EnvironmentSnapshot, SecretValue, ValueType
from phasesync.core.reference_syntax import escape
from phasesync.core.references import ProblemKind, resolve, unresolved
from phasesync.errors import UnresolvedReferenceError


def environment(secrets, *, app="Shop", name="Prod", revision=7):
    """An environment; keys are `KEY` or `/path/KEY`, values are text or secret values."""
    return EnvironmentSnapshot(
        environment_id=f"id-{app}-{name}".lower(),
        app=app,
        name=name,
        revision=revision,
        secrets={
            (key.rpartition("/")[0] or "/", key.rpartition("/")[2]): (
                value if isinstance(value, SecretValue) else SecretValue(value)
            )
            for key, value in secrets.items()
        },
    )


def loaded(*others):
    return {(other.app.lower(), other.name.lower()): other for other in others}


def texts(resolution):
    assert resolution.problems == ()
    assert resolution.complete
    return {key: value.reveal_text() for key, value in resolution.values.items()}


def kinds(resolution):
    assert not resolution.complete
    assert resolution.values == {}
    return [problem.kind for problem in resolution.problems]


def test_a_key_is_looked_up_in_its_own_folder_and_then_in_the_root():
    home = environment({"HOST": "root", "PORT": "1", "/db/HOST": "db", "/db/URL": "${HOST}:${PORT}"})
    assert texts(resolve(home, "/db", {})) == {"HOST": "db", "URL": "db:1"}


def test_a_folder_is_that_folder_exactly():
    home = environment({"A": "1", "/db/B": "2", "/db/x/C": "3"})
    assert set(texts(resolve(home, "/", {}))) == {"A"}
    assert set(texts(resolve(home, "/db", {}))) == {"B"}


def test_every_form_of_reference_resolves():
    home = environment(
        {
            "OWN": "own",
            "/f/IN": "in",
            "ALL": "${OWN} ${/f/IN} ${staging.K} ${staging./f/K} ${billing::prod.K} ${billing::prod./f/K}",
        }
    )
    staging = environment({"K": "s", "/f/K": "sf"}, name="Staging")
    billing = environment({"K": "b", "/f/K": "bf"}, app="Billing")
    assert texts(resolve(home, "/", loaded(staging, billing)))["ALL"] == "own in s sf b bf"


def test_apps_and_environments_compare_without_case_and_keys_with_it():
    other = environment({"K": "x"}, name="Staging")
    assert texts(resolve(environment({"A": "${STAGING.K}"}), "/", loaded(other))) == {"A": "x"}
    assert kinds(resolve(environment({"A": "${Staging.k}"}), "/", loaded(other))) == [ProblemKind.MISSING_KEY]


def test_an_environment_may_name_itself():
    assert texts(resolve(environment({"A": "${prod.B}", "B": "x"}), "/", {}))["A"] == "x"


def test_what_was_read_is_reported_through_any_number_of_hops():
    home = environment({"A": "${one.K}"})
    one = environment({"K": "${two.K}"}, name="one", revision=3)
    two = environment({"K": "x"}, name="two", revision=5)
    unused = environment({"K": "y"}, name="unused")
    found = resolve(home, "/", loaded(one, two, unused))
    assert found.reads == {"id-shop-prod": 7, "id-shop-one": 3, "id-shop-two": 5}
    assert texts(found) == {"A": "x"}


def test_what_is_not_loaded_is_asked_for_hop_by_hop():
    home = environment({"A": "${one.K} ${billing::two.K}", "B": "plain"})
    one = environment({"K": "${three.K}"}, name="one")
    two = environment({"K": "2"}, name="two", app="billing")
    three = environment({"K": "3"}, name="three")

    first = resolve(home, "/", {})
    assert first.needs == {("shop", "one"), ("billing", "two")}
    assert first.values == {}
    second = resolve(home, "/", loaded(one, two))
    assert second.needs == {("shop", "three")}
    assert texts(resolve(home, "/", loaded(one, two, three))) == {"A": "3 2", "B": "plain"}


def test_a_missing_key_is_named():
    (problem,) = resolve(environment({"A": "x${NOPE}"}), "/", {}).problems
    assert problem.kind is ProblemKind.MISSING_KEY
    assert problem.text == "A: ${NOPE} leads nowhere: there is no such key"


def test_a_missing_environment_is_named():
    found = resolve(environment({"A": "${nope.K}"}), "/", {("shop", "nope"): None})
    assert kinds(found) == [ProblemKind.MISSING_ENVIRONMENT]
    assert "shop/nope" in found.problems[0].text


def test_a_key_with_a_dot_is_a_key_where_no_environment_has_that_name():
    home = environment({"a.b": "x", "A": "${a.b}"})
    assert resolve(home, "/", {}).needs == {("shop", "a")}
    assert texts(resolve(home, "/", {("shop", "a"): None}))["A"] == "x"
    assert texts(resolve(home, "/", loaded(environment({"c": "y"}, name="a"))))["A"] == "x"


def test_two_readings_of_one_reference_are_ambiguous():
    home = environment({"a.b": "x", "A": "${a.b}"})
    found = resolve(home, "/", loaded(environment({"b": "y"}, name="a")))
    assert kinds(found) == [ProblemKind.AMBIGUOUS]
    assert found.problems[0].text == "A: ${a.b} is ambiguous: it means the key a.b of shop/prod and the key b of shop/a"


@pytest.mark.parametrize("value", ["${VAR:-canary}", "${VAR:?canary}", "${}", "${ VAR }", "${app::KEY}", "${a./b/}"])
def test_another_tool_s_syntax_is_malformed_and_the_escape_is_told(value):
    found = resolve(environment({"A": value}), "/", {("shop", "a"): None})
    assert kinds(found) == [ProblemKind.MALFORMED]
    assert "$${" in found.problems[0].text
    assert "canary" not in found.problems[0].text


def test_a_cycle_is_named_whole():
    home = environment({"A": "${B}", "B": "${/db/C}", "/db/C": "${other.D}"})
    other = environment({"D": "${prod.A}"}, name="other")
    found = resolve(home, "/", loaded(other))
    assert kinds(found) == [ProblemKind.CIRCULAR]
    assert "A -> B -> /db/C -> other.D -> A" in found.problems[0].text


def test_a_key_that_names_itself_is_a_cycle():
    assert kinds(resolve(environment({"A": "${A}"}), "/", {})) == [ProblemKind.CIRCULAR]


def test_two_cycles_are_two_problems():
    home = environment({"A": "${B}", "B": "${A}", "C": "${D}", "D": "${C}", "E": "${A}"})
    assert kinds(resolve(home, "/", {})) == [ProblemKind.CIRCULAR] * 2


def test_one_missing_key_is_one_problem_however_many_use_it():
    home = environment({"BASE": "${NOPE}"} | {f"K{n}": "${BASE}" for n in range(20)})
    assert kinds(resolve(home, "/", {})) == [ProblemKind.MISSING_KEY]


def test_one_bad_key_spoils_the_whole_folder():
    assert kinds(resolve(environment({"A": "fine", "B": "${NOPE}"}), "/", {})) == [ProblemKind.MISSING_KEY]


def test_a_problem_in_another_environment_names_the_place():
    other = environment({"/f/K": "${NOPE}"}, app="billing", name="two")
    (problem,) = resolve(environment({"A": "${billing::two./f/K}"}), "/", loaded(other)).problems
    assert problem.key == "billing::two./f/K"


def test_binary_passes_alone_and_not_within_a_text():
    binary = SecretValue(b"\xff", ValueType.BINARY)
    assert resolve(environment({"B": binary}), "/", {}).values == {"B": binary}
    assert kinds(resolve(environment({"A": "${B}", "B": binary}), "/", {})) == [ProblemKind.BINARY]


def test_a_document_is_resolved_in_its_string_leaves_only():
    document = SecretValue('{"${K}": ["${K}", 1.0, {"n": "a${K}b"}], "e": "$${K}"}', ValueType.JSON)
    value = resolve(environment({"D": document, "K": '"q'}), "/", {}).values["D"]
    assert value.type is ValueType.JSON
    assert value.reveal_text() == '{"${K}":["\\"q",1.0,{"n":"a\\"qb"}],"e":"${K}"}'


def test_a_document_in_a_text_is_its_compact_text():
    document = SecretValue('{"b": 1, "a": "${K}"}', ValueType.JSON)
    assert texts(resolve(environment({"T": "<${D}>", "D": document, "K": "v"}), "/", {}))["T"] == '<{"a":"v","b":1}>'


@pytest.mark.parametrize("type_", [ValueType.TEXT, ValueType.JSON])
def test_a_value_that_is_not_what_its_type_says_is_a_problem(type_):
    found = resolve(environment({"A": SecretValue(b"canary\xff", type_)}), "/", {})
    assert kinds(found) == [ProblemKind.INVALID_VALUE]
    assert "canary" not in found.problems[0].text


def test_growth_without_end_is_refused():
    doubling = {f"K{n}": f"${{K{n + 1}}}" * 2 for n in range(60)} | {"K60": "x"}
    found = resolve(environment(doubling), "/", {})
    assert ProblemKind.TOO_LARGE in kinds(found)


@pytest.mark.parametrize(
    ("value", "type_"), [("${BIG}", ValueType.TEXT), ("x${BIG}", ValueType.TEXT), ('["${BIG}"]', ValueType.JSON)]
)
def test_all_values_together_have_a_budget(value, type_):
    """Each of them is well within its own limit; 2 MB of store would make 1 GB."""
    keys = {f"K{n:05}": SecretValue(value, type_) for n in range(16_000)} | {"BIG": "x" * 65_000}
    found = resolve(environment(keys), "/", {})
    assert kinds(found) == [ProblemKind.TOO_LARGE]
    assert found.problems[0].text == (
        "K00258: the value and the values before it grow beyond 16,777,216 bytes together by their references"
    )
    assert unresolved(found.problems).hint == "refer to shorter values, or from fewer keys"


def test_what_other_folders_and_environments_make_of_references_counts_as_well():
    """The budget is of the resolution, wherever it is spent; characters count by their bytes."""
    other = environment({f"K{n:05}": "${BIG}é" for n in range(200)} | {"BIG": "é" * 32_000}, name="other")
    home = environment({f"K{n:05}": f"${{other.K{n:05}}}" for n in range(200)})
    assert kinds(resolve(home, "/", loaded(other))) == [ProblemKind.TOO_LARGE]


def test_values_without_references_are_not_counted():
    keys = {f"K{n:05}": "x" * 200_000 for n in range(100)} | {"ONE": "${K00000}"}
    assert len(texts(resolve(environment(keys), "/", {}))) == 101


def test_a_value_that_cannot_fit_costs_nothing():
    """Sixteen thousand keys that refer to one value of a megabyte: none is copied, each is named."""
    keys = {f"K{n:05}": "<${BIG}>" for n in range(16_000)} | {"BIG": "x" * 1_100_000, "LAST": "${SMALL}", "SMALL": "s"}
    found = resolve(environment(keys), "/", {})
    assert len(found.problems) == 16_000
    assert found.problems[0].detail == "grows beyond 262,144 characters by its references"


def test_quoting_counts_as_growth():
    """Control characters in a document take six bytes each."""
    keys = {f"K{n:05}": SecretValue('["${BIG}"]', ValueType.JSON) for n in range(50)} | {"BIG": "\x01" * 65_000}
    assert kinds(resolve(environment(keys), "/", {})) == [ProblemKind.TOO_LARGE]


def test_references_back_to_the_beginning_take_linear_time():
    """Every secret of a long chain leads back to all before it."""
    count = 3_000
    chain = {f"K{n:05}": f"${{K{n + 1:05}}}${{K00000}}" for n in range(count)}
    chain[f"K{count:05}"] = "".join(f"${{K{n:05}}}" for n in range(count))
    found = resolve(environment(chain), "/", {})
    assert kinds(found) == [ProblemKind.CIRCULAR] * (2 * count)
    assert f"({count - 28} more) -> " in found.problems[0].text


def test_the_keys_with_references_are_named():
    home = environment({"A": "${B}", "B": "x", "C": "$${B}", "D": SecretValue('{"b":"${B}"}', ValueType.JSON)})
    assert resolve(home, "/", {}).referring == {"A", "D"}


def test_a_large_value_without_references_is_left_alone():
    assert len(texts(resolve(environment({"A": "x" * 500_000}), "/", {}))["A"]) == 500_000


def test_ten_thousand_references_in_a_chain_and_in_one_value():
    chain = {f"K{n}": f"${{K{n + 1}}}" for n in range(10_000)} | {"K10000": "x"}
    chain["ALL"] = "".join(f"${{K{n}}}" for n in range(10_000))
    found = texts(resolve(environment(chain), "/", {}))
    assert found["K0"] == "x"
    assert found["ALL"] == "x" * 10_000


def test_a_long_cycle_is_found_and_shortened():
    chain = {f"K{n:05}": f"${{K{(n + 1) % 10_000:05}}}" for n in range(10_000)}
    found = resolve(environment(chain), "/", {})
    assert kinds(found) == [ProblemKind.CIRCULAR]
    assert len(found.problems[0].text) < 1_000


@given(st.text())
def test_an_escaped_text_resolves_to_itself(text):
    assert texts(resolve(environment({"A": escape(text)}), "/", {})) == {"A": text}


@given(st.integers(1, 8), st.data())
def test_references_without_a_cycle_resolve_like_substitution_by_hand(count, data):
    # Key n refers to keys above n only, so that there is no cycle.
    names = [f"K{n}" for n in range(count)]
    secrets: dict[str, str] = {}
    expected: dict[str, str] = {}
    for n in reversed(range(count)):
        used = data.draw(st.lists(st.sampled_from(names[n + 1 :]), max_size=3)) if n + 1 < count else []
        secrets[names[n]] = f"<{n}" + "".join(f"${{{name}}}" for name in used)
        expected[names[n]] = f"<{n}" + "".join(expected[name] for name in used)
    assert texts(resolve(environment(secrets), "/", {})) == expected


@given(st.dictionaries(st.sampled_from("ABCDE"), st.lists(st.sampled_from("ABCDEF"), max_size=3), max_size=5))
def test_a_folder_resolves_exactly_when_nothing_is_missing_or_circular(uses):
    def fails(key, above=()):
        return key in above or key not in uses or any(fails(used, (*above, key)) for used in uses[key])

    secrets = {key: "".join(f"${{{used}}}" for used in used_keys) for key, used_keys in uses.items()}
    found = resolve(environment(secrets), "/", {})
    assert found.complete == (not any(fails(key) for key in uses))
    assert (len(found.values) == len(uses)) == found.complete


def test_the_error_names_the_first_problem_and_counts_the_others():
    error = unresolved(resolve(environment({"A": "${X}", "B": "${Y}", "C": "${Z}"}), "/", {}).problems)
    assert isinstance(error, UnresolvedReferenceError)
    assert error.message == "A: ${X} leads nowhere: there is no such key (and 2 more)"


def test_a_resolution_does_not_print_values():
    assert "canary" not in repr(resolve(environment({"A": "canary"}), "/", {}))
