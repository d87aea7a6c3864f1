"""Lists in pages: `next`, `--after`, `--limit`, and what is in memory while a long list is printed."""

import json
import weakref
from typing import Any

import pytest

from phasesync.cli.output import Output
from phasesync.core.pages import Page, each_page
from phasesync.core.sync import SyncStatus
from tests.cli.conftest import CommandLine
from tests.contracts.test_paging import finish, log
from tests.support.stores import (
    access_key,
    add_dynamic,
    add_sync,
    issue_lease,
    open_test_store,
    put,
    write,
)


@pytest.fixture
def filled(phasesync: CommandLine) -> CommandLine:
    """A command line with three of everything."""
    store = open_test_store(f"sqlite:///{phasesync.directory}/data/phasesync.db")
    put(store, write("A"), write("B"), write("C"))
    for name in ("a", "b", "c"):
        store.apps.add_app(name)
        store.credentials.add(name, access_key())
        add_sync(store, name)
        add_dynamic(store, name, path=f"/{name}")
        log(store, name)
    dynamic = store.dynamics.get("a")
    for _ in range(3):
        issue_lease(store, dynamic)
    for environment in ("staging", "test"):
        put(store, environment=environment)
    finish(store, "b", SyncStatus.FAILING)
    store.close()
    return phasesync


LISTS = (
    "apps list",
    "envs list",
    "secrets list shop/production",
    "credentials list",
    "syncs list",
    "dynamic list",
    "leases list",
    "runs list",
)


@pytest.mark.parametrize("line", LISTS)
def test_next_leads_through_a_list_item_by_item(filled: CommandLine, line: str) -> None:
    words = line.split()
    whole = filled.json(*words, "--limit", "0")
    assert whole["next"] is None and len(whole["items"]) >= 3

    found: list[Any] = []
    after: list[str] = []
    while True:
        page = filled.json(*words, "--limit", "1", *after)
        found += page["items"]
        if page["next"] is None:
            break
        after = ["--after", page["next"]]

    assert found == whole["items"]


@pytest.mark.parametrize("line", LISTS)
def test_a_table_says_on_stderr_how_to_see_the_rest(filled: CommandLine, line: str) -> None:
    words = line.split()
    shown = filled.done(*words, "--limit", "2")
    following = filled.json(*words, "--limit", "2")["next"]

    assert len(shown.stdout.splitlines()) == 3
    assert f"note: there are more than 2: the same command with --after {following}, or all: --limit 0" in shown.stderr
    assert filled.done(*words, "--limit", "2", "-o", "json").stderr == "", "a script that gives a limit reads next"
    assert filled.done(*words).stderr == ""


@pytest.mark.parametrize("line", LISTS)
def test_a_cursor_that_no_page_had_is_wrong_usage(filled: CommandLine, line: str) -> None:
    refused = filled(*line.split(), "--after", "no such/place!", "-o", "json")

    assert refused.exit_code == 2 and refused.stdout == ""
    error = json.loads(refused.stderr)["error"]
    assert error["message"] == "that is no place in this list"
    assert "--after" in error["hint"] and "leave it out" in error["hint"]


def test_nothing_after_the_last_item_is_no_error(filled: CommandLine) -> None:
    assert filled.json("apps", "list", "--after", "zzz") == {"items": [], "next": None}
    assert filled.done("apps", "list", "--after", "zzz").stderr == "nothing follows zzz\n"


def test_syncs_are_listed_by_status_app_and_credential(filled: CommandLine) -> None:
    def names(*args: str) -> list[str]:
        return [item["name"] for item in filled.items("syncs", "list", *args)]

    assert names("--status", "failing") == ["b"]
    assert names("--status", "failing,pending", "--status", "in-sync") == ["a", "b", "c"]
    assert names("--app", "SHOP", "--credential", "aws") == ["a", "b", "c"]
    assert names("--app", "a") == names("--credential", "c") == []
    assert filled.done("syncs", "list", "--app", "a").stderr == "there are no such syncs\n"
    refused = filled("syncs", "list", "--status", "broken")
    assert refused.exit_code == 2 and "'broken' is not a status" in refused.stderr
    assert "statuses: pending" in refused.stderr
    assert filled("syncs", "list", "--app", "nope").exit_code == 5


def test_following_begins_with_the_newest_runs(filled: CommandLine) -> None:
    cursor = filled.json("runs", "list", "--limit", "1")["next"]
    for words in (["--after", cursor], ["--limit", "0"]):
        refused = filled("runs", "list", "--follow", *words)
        assert refused.exit_code == 2 and "takes neither --after nor --limit 0" in refused.stderr


def test_a_credential_names_the_first_of_its_many_users(filled: CommandLine) -> None:
    store = open_test_store(f"sqlite:///{filled.directory}/data/phasesync.db")
    for number in range(104):
        add_sync(store, f"s{number:03}", credential="b")
    store.close()

    listed = {item["name"]: item for item in filled.items("credentials", "list")}
    assert listed["b"]["used_by"] == [f"s{number:03}" for number in range(100)]
    assert listed["b"]["used_by_count"] == 104
    assert listed["aws"]["used_by"] == ["a", "a", "b", "b", "c", "c"], "syncs and dynamic secrets"
    assert listed["aws"]["used_by_count"] == 6
    assert listed["c"]["used_by"] == [] and listed["c"]["used_by_count"] == 0
    assert listed["b"] | {"owner": None} == filled.json("credentials", "show", "b")
    assert "s009 and 94 more" in filled.done("credentials", "list").stdout
    refused = filled("credentials", "remove", "b", "--yes")
    assert refused.exit_code == 4 and "s009 and 94 more" in refused.stderr


# --- printing


class Item(dict[str, Any]):
    """An item that can be watched."""


@pytest.mark.parametrize("as_json", [True, False])
def test_a_long_list_is_never_in_memory_as_a_whole(as_json: bool, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    alive: list[weakref.ref[Item]] = []
    most = 0

    def fetch(after: str | None, limit: int) -> Page[Item]:
        nonlocal most, alive
        begin = int(after or 0)
        items = tuple(Item(name=f"n{number}") for number in range(begin, begin + limit))
        alive = [item for item in alive if item() is not None] + [weakref.ref(item) for item in items]
        most = max(most, len(alive))
        return Page(items=items, next=str(begin + limit) if begin + limit < 20_000 else None)

    assert Output(as_json=as_json).pages(each_page(fetch), ["name"], empty="nothing") is None
    printed = capsysbinary.readouterr().out.decode()
    assert printed.count("n19999") == 1
    assert most <= 2_000


def test_a_list_printed_page_by_page_is_the_document_that_json_would_indent(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    items: list[dict[str, object]] = [{"a": 1, "b": {"c": [1, 2], "d": []}}, {"text": "line\nline ü \u2028"}, {}]
    for count in range(4):
        for size in (1, 2, 4):
            pages = [Page(items=tuple(items[n : n + size][: count - n]), next=None) for n in range(0, count, size)]
            Output(as_json=True).pages(pages or [Page(items=(), next=None)], [], empty="")
            printed = capsysbinary.readouterr().out.decode()
            assert json.loads(printed) == {"items": items[:count], "next": None}
            expected = json.dumps({"items": items[:count], "next": None}, indent=2, ensure_ascii=False)
            assert printed == expected.replace("\u2028", "\\u2028") + "\n"


def test_the_columns_of_a_later_page_may_be_wider(capsys: pytest.CaptureFixture[str]) -> None:
    pages = [Page(items=({"a": "x", "b": "y"},), next="1"), Page(items=({"a": "long one", "b": "y"},), next="2")]

    assert Output(as_json=False).pages(pages, ["a", "b"], empty="nothing") == "2"

    assert capsys.readouterr().out.splitlines() == ["A  B", "x  y", "long one  y"]
