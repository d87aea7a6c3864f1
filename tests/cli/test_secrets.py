"""Secrets from the command line."""

from __future__ import annotations

import base64
import json

import pytest


def value(shop, key, env="shop/prod", *args):
    return shop.done("secrets", "get", env, key, "--reveal", *args).stdout_bytes


def keys(shop, *args):
    return [(item["path"], item["key"]) for item in shop.items("secrets", "list", "shop/prod", *args)]


def test_a_value_from_stdin_loses_one_final_newline(shop):
    shop.done("secrets", "set", "shop/prod", "K", "-", stdin="line 1\nline 2\n\n")
    assert value(shop, "K") == b"line 1\nline 2\n"


def test_a_value_from_a_file_is_taken_byte_for_byte(shop):
    file = shop.directory / "value"
    file.write_bytes(b"\xff\x00\n")
    shop.done("secrets", "set", "shop/prod", "K", "--from-file", str(file), "--type", "binary")
    assert value(shop, "K") == b"\xff\x00\n"


def test_a_value_from_a_prompt_is_not_shown(shop, answer):
    answer()
    done = shop.done("secrets", "set", "shop/prod", "K", stdin="canary\n")
    assert "canary" not in done.output
    assert value(shop, "K") == b"canary"


@pytest.mark.parametrize("surplus", [["canary"], ["-", "canary"], ["canary", "canary2"]])
def test_a_value_as_an_argument_is_refused_and_not_repeated(shop, surplus):
    refused = shop("secrets", "set", "shop/prod", "K", *surplus, stdin="x")
    assert refused.exit_code == 2
    assert "never taken from an argument" in refused.stderr
    assert "canary" not in refused.output
    assert keys(shop) == []


def test_nobody_types_a_value_for_an_environment_that_does_not_exist(shop, answer):
    answer()
    refused = shop("secrets", "set", "shop/nope", "K", stdin="x\n")
    assert refused.exit_code == 5
    assert "K:" not in refused.stderr


def test_text_must_be_text_and_json_must_be_json(shop):
    assert shop("secrets", "set", "shop/prod", "K", "-", stdin=b"\xff").exit_code == 2
    assert shop("secrets", "set", "shop/prod", "K", "-", "--type", "json", stdin="{").exit_code == 2
    assert keys(shop) == []


def test_a_reference_of_another_tool_is_warned_of_and_kept(shop):
    done = shop.done("secrets", "set", "shop/prod", "K", "-", stdin="${HOST:-canary}")
    assert "warning: ${HOST…} is not a reference" in done.stderr
    assert "canary" not in done.output
    assert value(shop, "K") == b"${HOST:-canary}"


def test_listing_and_getting_hide_values(shop):
    shop.done("secrets", "set", "shop/prod", "K", "-", "--comment", "why", stdin="canary")
    for args in (["list", "shop/prod"], ["get", "shop/prod", "K"], ["history", "shop/prod", "K"]):
        for output in ("table", "json"):
            done = shop.done("secrets", *args, "-o", output)
            assert "why" in done.stdout
            assert "canary" not in done.output


def test_a_listed_key_says_what_when_and_who(shop):
    done = shop.json("--actor", "alice", "secrets", "set", "shop/prod", "K", "-", stdin="x")
    (item,) = shop.items("secrets", "list", "shop/prod")
    assert (item["key"], item["path"], item["type"], item["version"], item["origin"]) == ("K", "/", "text", 1, "set")
    assert item["changed_by"].endswith(" as alice")
    assert done["env"] == "shop/prod"
    assert {name: done[name] for name in item} == item


def test_a_new_key_with_a_slash_is_warned_of_and_its_folder_named(shop):
    """In the folder / no sync of /db reads it, and everything looks well."""
    told = shop.done("secrets", "set", "shop/prod", "/db/MY KEY", "-", stdin="x").stderr
    assert "/db/MY KEY is the name of a key in the folder /, with the slash in it" in told
    assert "for the key MY KEY in the folder /db: secrets set shop/prod 'MY KEY' --path /db" in told
    assert [each["path"] for each in shop.items("secrets", "list", "shop/prod")] == ["/"]
    assert "warning" not in shop.done("secrets", "set", "shop/prod", "/db/MY KEY", "-", stdin="y").stderr
    assert "--path /x/y" in shop.done("secrets", "generate", "shop/prod", "y/K", "--path", "/x").stderr
    told = shop.done("secrets", "set", "shop/prod", "KEY", "-", "--path", "/db", stdin="x").stderr
    assert (told.startswith("shop/prod /db: KEY set (version 1"), "warning" in told) == (True, False)
    assert shop.done("secrets", "unset", "shop/prod", "KEY", "--path", "/db").stderr.startswith("shop/prod /db: unset")


def test_folders_are_listed_all_or_one_exactly(shop):
    for path in ("/", "/db", "/db/replica"):
        shop.done("secrets", "generate", "shop/prod", "K", "--path", path)
    assert keys(shop) == [("/", "K"), ("/db", "K"), ("/db/replica", "K")]
    assert keys(shop, "--path", "db/") == [("/db", "K")]


def test_a_revealed_document_says_how_its_value_is_encoded(shop):
    shop.done("secrets", "set", "shop/prod", "T", "-", stdin="text")
    shop.done("secrets", "set", "shop/prod", "B", "-", "--type", "binary", stdin=b"\xff")
    text = shop.json("secrets", "get", "shop/prod", "T", "--reveal")
    binary = shop.json("secrets", "get", "shop/prod", "B", "--reveal")
    assert (text["value"], text["encoding"]) == ("text", "text")
    assert (base64.b64decode(binary["value"]), binary["encoding"]) == (b"\xff", "base64")


def test_references_are_shown_as_they_were_entered(shop):
    shop.done("secrets", "set", "shop/prod", "A", "-", stdin="${B}$${C}")
    assert value(shop, "A") == b"${B}$${C}"
    assert shop.done("secrets", "export", "shop/prod").stdout == "A='${B}$${C}'\n"


def test_generated_values_are_random_letters_and_digits_and_not_shown(shop):
    done = shop.done("secrets", "generate", "shop/prod", "A", "--length", "40")
    shop.done("secrets", "generate", "shop/prod", "B")
    a, b = value(shop, "A").decode(), value(shop, "B").decode()
    assert (len(a), len(b)) == (40, 32)
    assert a[:32] != b
    assert (a + b).isalnum()
    assert a not in done.output


def test_history_rollback_and_unset(shop):
    for number in ("one", "two"):
        shop.done("secrets", "set", "shop/prod", "K", "-", "--comment", number, stdin=number)
    shop.done("secrets", "unset", "shop/prod", "K")
    assert shop("secrets", "get", "shop/prod", "K").exit_code == 5
    shop.done("secrets", "rollback", "shop/prod", "K", "--to", "1")
    assert value(shop, "K") == b"one"
    found = shop.items("secrets", "history", "shop/prod", "K")
    assert [(item["version"], item["origin"], item["type"]) for item in found] == [
        (4, "rollback", "text"),
        (3, "unset", None),
        (2, "set", "text"),
        (1, "set", "text"),
    ]
    assert found[0]["comment"] == "one"


@pytest.mark.parametrize("version", ["3", "9"])
def test_a_version_without_a_value_cannot_be_rolled_back_to(shop, version):
    for number in ("one", "two"):
        shop.done("secrets", "set", "shop/prod", "K", "-", stdin=number)
    shop.done("secrets", "unset", "shop/prod", "K")
    refused = shop("secrets", "rollback", "shop/prod", "K", "--to", version)
    assert refused.exit_code == 5
    assert "versions with one: 1, 2" in refused.stderr


@pytest.mark.parametrize(
    "command",
    [["get", "shop/prod", "NOPE"], ["unset", "shop/prod", "NOPE"], ["history", "shop/prod", "NOPE"], ["list", "a/b"]],
)
def test_what_does_not_exist_is_not_found(shop, command):
    assert shop("secrets", *command).exit_code == 5


# --- several keys


def revision(shop):
    return shop.items("envs", "list")[0]["revision"]


def test_several_values_from_stdin_are_one_line_each(shop):
    done = shop.json("secrets", "set", "shop/prod", "B", "-", "A", "-", stdin=b"one\ntwo\r\n")
    assert (done["env"], done["revision"], done["next"]) == ("shop/prod", revision(shop), None)
    assert [(item["key"], item["version"]) for item in done["items"]] == [("B", 1), ("A", 1)]
    assert revision(shop) == 1
    assert (value(shop, "B"), value(shop, "A")) == (b"one", b"two\r")
    assert shop.done("secrets", "set", "shop/prod", "B", "-", "A", "-", stdin="1\n2").stderr == (
        "shop/prod: B, A set (revision 2)\n"
    )


def test_with_null_values_may_have_several_lines(shop):
    shop.done("secrets", "set", "shop/prod", "A", "-", "B", "-", "--null", stdin=b"one\ntwo\n\x00x\x00")
    shop.done("secrets", "set", "shop/prod", "C", "-", "--null", stdin=b"one\n\x00")
    assert (value(shop, "A"), value(shop, "B"), value(shop, "C")) == (b"one\ntwo\n", b"x", b"one\n")


@pytest.mark.parametrize(
    ("words", "stdin", "message"),
    [
        (["A", "-", "B", "-"], b"canary\n", "2 lines are expected on stdin, and 1 of them arrived"),
        (["A", "-", "B", "-"], b"canary\nb\nc", "2 lines are expected on stdin, and 3 of them arrived"),
        (["A", "-", "B", "-"], b"", "2 lines are expected on stdin, and nothing arrived"),
        (["A", "-", "B", "-"], b"canary\n\n", "B would become empty"),
        (["A", "-", "B", "-", "--null"], b"canary\nb\n", "2 NUL-terminated values are expected on stdin, and 1 of"),
        (["A", "-", "B", "-", "--type", "json"], b'"canary"\n{\n', "B: the value is not valid JSON"),
        (["A", "-", "A", "-"], b"canary\nb\n", "a key is named twice"),
        (["A", "-", "B"], b"canary\nb\n", "never taken from an argument"),
        (["A", "-", "canary", "b"], b"x\n", "never taken from an argument"),
        (["A", "-", "B=canary", "-"], b"x\n", "never taken from an argument"),
        (["A", "canary"], b"", "never taken from an argument"),
        (["A", "CANARY123"], b"", "never taken from an argument"),
        (["DB_USER", "DB_PASSWORD"], b"", "there is no terminal to ask for DB_USER"),
        (["A", "--null"], b"", "--null is for values from stdin"),
        (["DB_USER", "DB_PASSWORD", "--from-file", "/dev/null"], b"", "--from-file is for one key"),
    ],
)
def test_several_keys_are_all_set_or_none(shop, words, stdin, message):
    refused = shop("secrets", "set", "shop/prod", *words, stdin=stdin)
    assert refused.exit_code == 2
    assert message in refused.stderr
    assert "canary" not in refused.output.lower()
    assert revision(shop) == 0


def test_several_keys_are_asked_for_one_after_the_other(shop, answer):
    answer()
    shop.done("secrets", "generate", "shop/prod", "old")
    done = shop.done("secrets", "set", "shop/prod", "NEW", "old", "DB_PASSWORD", stdin="one\ntwo\nthree\n")
    assert done.stderr.index("NEW: ") < done.stderr.index("old: ") < done.stderr.index("DB_PASSWORD: ")
    assert [value(shop, key) for key in ("NEW", "old", "DB_PASSWORD")] == [b"one", b"two", b"three"]
    assert revision(shop) == 2


def test_several_keys_are_unset_in_one_revision_or_none(shop):
    shop.done("secrets", "import", "shop/prod", "-", "--yes", stdin="A=1\nB=2\nC=3\n")
    assert shop("secrets", "unset", "shop/prod", "A", "NOPE").exit_code == 5
    assert len(keys(shop)) == 3
    done = shop.json("secrets", "unset", "shop/prod", "A", "B", "A")
    assert done == {
        "env": "shop/prod",
        "path": "/",
        "items": [{"key": "A"}, {"key": "B"}],
        "next": None,
        "revision": 2,
    }
    assert keys(shop) == [("/", "C")]
    assert shop.json("secrets", "unset", "shop/prod", "C") == {
        "env": "shop/prod",
        "path": "/",
        "key": "C",
        "revision": 3,
    }


# --- files


def imported(shop, text, *args, file="-"):
    return shop("secrets", "import", "shop/prod", file, *args, stdin=text)


def test_an_import_merges_in_one_revision(shop):
    shop.done("secrets", "set", "shop/prod", "KEEP", "-", stdin="kept")
    shop.done("secrets", "set", "shop/prod", "CHANGE", "-", stdin="old")
    shop.done("secrets", "set", "shop/prod", "SAME", "-", stdin="same")
    before = shop.items("envs", "list")[0]["revision"]
    done = shop.json("secrets", "import", "shop/prod", "-", "--yes", stdin="CHANGE=new\nSAME=same\nADD=x\n")
    assert (done["added"], done["changed"], done["removed"], done["unchanged"]) == (["ADD"], ["CHANGE"], [], 1)
    assert done["revision"] == before + 1
    assert [key for _, key in keys(shop)] == ["ADD", "CHANGE", "KEEP", "SAME"]
    assert value(shop, "CHANGE") == b"new"


def test_an_import_of_what_is_there_makes_no_revision(shop):
    shop.done("secrets", "import", "shop/prod", "-", "--yes", stdin="A=${x}\nB=1\n")
    before = shop.items("envs", "list")[0]["revision"]
    assert shop.json("secrets", "import", "shop/prod", "-", "--yes", stdin="A=${x}\nB=1\n")["revision"] == before


def test_an_imported_mark_is_literal(shop):
    imported(shop, "A='${HOME} $${x}'\n", "--yes")
    assert value(shop, "A") == b"$${HOME} $$${x}"


def test_pruning_removes_what_the_file_does_not_have_and_asks(shop, answer):
    shop.done("secrets", "import", "shop/prod", "-", "--yes", stdin="A=1\nB=2\n")
    shop.done("secrets", "generate", "shop/prod", "OTHER", "--path", "/db")
    file = shop.directory / "a.env"
    file.write_text("A=1\n")
    assert imported(shop, None, "--prune", file=str(file)).exit_code == 2
    answer()
    refused = imported(shop, "n\n", "--prune", file=str(file))
    assert refused.exit_code == 1
    assert "B" in refused.stderr
    assert keys(shop) == [("/", "A"), ("/", "B"), ("/db", "OTHER")]
    shop.done("secrets", "import", "shop/prod", str(file), "--prune", "--yes")
    assert keys(shop) == [("/", "A"), ("/db", "OTHER")]


def test_an_import_asks_before_it_changes_anything(shop):
    assert imported(shop, "A=1\n").exit_code == 2
    assert keys(shop) == []
    assert imported(shop, "A=1\n", "--yes").exit_code == 0
    assert keys(shop) == [("/", "A")]


def test_an_import_that_changes_nothing_asks_nothing(shop):
    imported(shop, "A=1\n", "--yes")
    assert imported(shop, "A=1\n", "--prune").exit_code == 0


def test_a_json_file_is_known_by_its_name(shop):
    file = shop.directory / "a.json"
    file.write_text('{"T": "text", "N": 1.10, "O": {"b": 1, "a": [null]}}')
    shop.done("secrets", "import", "shop/prod", str(file), "--path", "/db", "--yes")
    types = {item["key"]: item["type"] for item in shop.items("secrets", "list", "shop/prod")}
    assert types == {"T": "text", "N": "json", "O": "json"}
    exported = shop.done("secrets", "export", "shop/prod", "--path", "/db", "--format", "json").stdout
    assert exported == '{"N":1.10,"O":{"a":[null],"b":1},"T":"text"}\n'


def test_a_broken_file_changes_nothing(shop):
    assert imported(shop, "A=1\nbroken\n").exit_code == 2
    assert imported(shop, '{"A": 1, "A": 2}', "--format", "json").exit_code == 2
    assert keys(shop) == []


def test_an_export_can_be_imported_elsewhere(shop):
    values = {"A": "multi\nline 'quoted' \"too\" \\ # $HOME", "B": "", "C": "plain"}
    for key, text in values.items():
        shop.done("secrets", "set", "shop/prod", key, "-", "--allow-empty", stdin=text)
    shop.done("envs", "add", "shop/copy")
    shop.done("secrets", "import", "shop/copy", "-", "--yes", stdin=shop.done("secrets", "export", "shop/prod").stdout)
    assert {key: value(shop, key, "shop/copy").decode() for key in values} == values


def test_an_export_as_json_is_one_document(shop):
    shop.done("secrets", "set", "shop/prod", "A", "-", stdin="x")
    assert json.loads(shop.done("secrets", "export", "shop/prod", "-o", "json").stdout) == {"A": "x"}


def test_binary_is_exported_as_base64_with_a_warning(shop):
    shop.done("secrets", "set", "shop/prod", "B", "-", "--type", "binary", stdin=b"\xff")
    done = shop.done("secrets", "export", "shop/prod")
    assert done.stdout == "B='/w=='\n"
    assert "warning: B is binary" in done.stderr


def test_an_export_warns_of_what_an_import_would_take_literally(shop):
    shop.done("secrets", "set", "shop/prod", "REF", "-", stdin="${OTHER}-canary")
    shop.done("secrets", "set", "shop/prod", "PLAIN", "-", stdin="$5")

    done = shop.done("secrets", "export", "shop/prod")

    assert done.stderr.splitlines() == [
        "warning: REF has ${ in it: secrets import would take that literally",
        "hint: --format json keeps references, types and comments; --resolve prints what AWS gets",
        "note: REF: python-dotenv replaces ${…} in any quotes, unless with interpolate=False",
    ]
    assert "canary" not in done.stderr


def test_a_file_and_an_aws_secret_exclude_each_other(shop):
    refused = shop("secrets", "import", "shop/prod", "-", "--from-aws", "web", "--credential", "aws", stdin="K=v")
    assert refused.exit_code == 2
    assert "a file and --from-aws exclude each other" in refused.stderr


def test_what_is_no_dotenv_gets_a_hint(shop):
    refused = shop("secrets", "import", "shop/prod", "-", stdin="name: value\n")
    assert (refused.exit_code, keys(shop)) == (2, [])
    assert "hint: KEY=VALUE on each line" in refused.stderr
