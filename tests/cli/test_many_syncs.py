"""Commands on many syncs at once: which are meant, what is printed, and which exit code counts."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from phasesync.core.sync import SyncStatus
from phasesync.engine import bulk_operations
from phasesync.engine.claims import ClaimKeeper
from tests.cli.conftest import CommandLine
from tests.support.aws import Aws

KEYS = "".join(f"KEY_{n}=value-{n}\n" for n in range(4))


@pytest.fixture
def many(shop: CommandLine, aws: Aws) -> CommandLine:
    """Three syncs: `api` and `web` of shop/prod, `docs` of another app with another credential."""
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-west-1")
    shop.done("credentials", "add", "other", "--type", "ambient", "--region", "eu-west-1")
    shop.done("secrets", "import", "shop/prod", "-", "--yes", stdin=KEYS)
    shop.done("apps", "add", "site")
    shop.done("envs", "add", "site/prod")
    shop.done("secrets", "import", "site/prod", "-", "--yes", stdin=KEYS)
    add(shop, "api")
    add(shop, "web")
    add(shop, "docs", env="site/prod", credential="other")
    return shop


def add(shop: CommandLine, name: str, *, env: str = "shop/prod", credential: str = "host") -> None:
    """Add a sync without asking AWS."""
    where = ("--env", env, "--credential", credential, "--secret-name", f"secret/{name}", "--no-verify")
    shop.done("syncs", "add", name, *where)


def statuses(shop: CommandLine) -> dict[str, str]:
    """Name -> status of every sync."""
    return {item["name"]: item["status"] for item in shop.items("syncs", "list")}


def paused(shop: CommandLine) -> set[str]:
    """Names of the paused syncs."""
    return {name for name, status in statuses(shop).items() if status == SyncStatus.PAUSED}


def several(shop: CommandLine, *words: str) -> Any:
    """Run a command on several syncs; return its document whatever the exit code."""
    return json.loads(shop("syncs", *words, "-o", "json").stdout)


# --- which syncs


def test_names_or_filters_say_which_syncs(many: CommandLine) -> None:
    for words, meant in (
        (("web", "docs", "WEB"), {"web", "docs"}),
        (("--all",), {"api", "web", "docs"}),
        (("--app", "shop"), {"api", "web"}),
        (("--credential", "other"), {"docs"}),
        (("--app", "shop", "--credential", "other"), set()),
        (("--app", "shop", "--status", "pending,halted"), {"api", "web"}),
        (("--status", "halted"), set()),
    ):
        assert {item["name"] for item in several(many, "pause", *words)["items"]} == meant, words
        assert paused(many) == meant, words
        many.done("syncs", "resume", "--all")


WRONG = (
    ((), 2, "name a sync, or give --all"),
    (("web", "--all"), 2, "names and filters exclude each other"),
    (("web", "--app", "shop"), 2, "names and filters exclude each other"),
    (("--status", "halted,broken"), 2, "'broken' is not a status"),
    (("--app", "shpo"), 5, "there is no app shpo"),
    (("--credential", "hots"), 5, "there is no credential hots"),
    (("web", "nope", "api", "neither"), 5, "there is no sync nope, neither; there is: api, docs, web"),
)


def test_a_wrong_selection_does_nothing(many: CommandLine) -> None:
    """Nor is anything done with the names beside an unknown one."""
    for command in ("pause", "resume", "trigger", "run", "plan", "approve"):
        more = ("--plan", "0123456789abcdef") if command == "approve" else ()
        for words, code, message in WRONG:
            refused = many("syncs", command, *words, *more)
            assert (refused.exit_code, refused.stdout) == (code, ""), (command, words)
            assert message in refused.stderr, (command, words)
    assert set(statuses(many).values()) == {"pending"}


def test_a_filter_that_matches_nothing_says_so(many: CommandLine) -> None:
    for command in ("pause", "resume", "trigger", "run", "plan"):
        done = many.done("syncs", command, "--status", "held")
        assert (done.stdout, done.stderr.strip()) == ("", "there are no such syncs")
        assert many.json("syncs", command, "--status", "held")["items"] == []


# --- pause, resume, trigger


def test_several_syncs_are_paused_and_resumed_with_a_line_each(many: CommandLine) -> None:
    done = many.done("syncs", "pause", "web", "api", "--reason", "the account moves", "--until", "2h")
    assert done.stdout.splitlines() == ["SYNC  RESULT", "web   paused", "api   paused"]
    assert done.stderr.startswith("2 syncs paused until ")
    assert many.json("syncs", "show", "web")["paused"]["reason"] == "the account moves"
    assert "api   resumed" in many.done("syncs", "resume", "--app", "shop").stdout
    assert paused(many) == set()


def test_the_document_of_one_sync_is_the_same_among_several(many: CommandLine) -> None:
    items = many.items("syncs", "pause", "api", "web")
    assert items == [many.json("syncs", "show", name) for name in ("api", "web")]


def test_a_paused_sync_keeps_no_other_from_being_triggered(many: CommandLine) -> None:
    many.done("syncs", "pause", "api")
    told = many("syncs", "trigger", "--all")
    assert told.exit_code == 4
    assert told.stdout.splitlines() == ["SYNC  RESULT", "api   paused", "docs  triggered", "web   triggered"]
    assert "error: api: the sync api is paused by" in told.stderr
    assert "hint: phasesync syncs resume api" in told.stderr
    assert "run them here: phasesync syncs run --all" in told.stderr
    first, *rest = several(many, "trigger", "--all")["items"]
    assert (first["sync"], first["error"]["class"]) == ("api", "IllegalTransitionError")
    assert [item["name"] for item in rest] == ["docs", "web"]


def test_waiting_for_several_without_a_daemon_ends_for_all(many: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phasesync.engine.sync_operations.STARTING_S", 0.0)
    told = many("syncs", "trigger", "--all", "--wait", "--timeout", "1h")
    assert told.exit_code == 7
    assert told.stderr.count("no daemon is running that would make it in-sync") == 3


# --- run


def test_several_syncs_are_run_and_the_worst_exit_code_counts(many: CommandLine, aws: Aws) -> None:
    aws.boto("secretsmanager").create_secret(Name="secret/docs", SecretString="theirs")
    many.done("syncs", "pause", "api")
    told = many("syncs", "run", "--all")
    assert told.exit_code == 4
    assert [line.split()[:2] for line in told.stdout.splitlines()[1:]] == [
        ["api", "paused"],
        ["docs", "refused"],
        ["web", "applied"],
    ]
    assert "the sync api is paused" in told.stdout
    assert "1 of 3: " in told.stderr and "3 of 3: " in told.stderr
    assert "hint: phasesync syncs adopt docs takes it over" in told.stderr
    assert json.loads(aws.secret_text("secret/web"))["KEY_1"] == "value-1"

    aws.server.deny("secretsmanager:DescribeSecret")
    document = several(many, "run", "--all")
    assert [item.get("outcome") for item in document["items"]] == [None, "failed", "failed"]
    assert many("syncs", "run", "--all").exit_code == 7


def test_several_keys_that_are_set_at_once_are_one_version_at_aws(many: CommandLine) -> None:
    many.done("syncs", "run", "web")
    many.done("secrets", "set", "shop/prod", "KEY_1", "-", "KEY_2", "-", stdin="one\ntwo\n")
    run = many.json("syncs", "run", "web")
    assert (run["versions_written"], run["changes"][0]["keys"]["changed"]) == (1, ["KEY_1", "KEY_2"])


def test_an_interruption_releases_the_claims(many: CommandLine, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run under way ends before its next write, and those that have not begun do not begin."""
    monkeypatch.setenv("PHASESYNC_DAEMON__WORKERS", "1")
    began = threading.Event()

    def interrupt(futures: Any) -> Any:
        assert began.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setattr(bulk_operations, "as_completed", interrupt)
    stopped = ClaimKeeper.stop
    describing = threading.Event()

    def stop(keeper: Any) -> None:
        stopped(keeper)
        describing.set()

    monkeypatch.setattr(ClaimKeeper, "stop", stop)
    check = ClaimKeeper._check

    def wait_and_check(keeper: Any, claim: Any, *, heed_pause: bool) -> None:
        began.set()
        assert describing.wait(30)
        check(keeper, claim, heed_pause=heed_pause)

    monkeypatch.setattr(ClaimKeeper, "_check", wait_and_check)

    ended = many("syncs", "run", "--all")

    assert ended.exit_code == 130
    assert "interrupted" in ended.stderr
    assert SyncStatus.RUNNING not in statuses(many).values()
    assert aws.boto("secretsmanager").list_secrets()["SecretList"] == []
    assert {item["outcome"] for item in many.items("runs", "list")} == {"interrupted"}


def test_syncs_with_one_cause_get_one_hint(many: CommandLine) -> None:
    drop_keys(many)
    told = many("syncs", "run", "--all")
    assert told.exit_code == 4
    assert [line for line in told.stderr.splitlines() if line.startswith("hint")] == [
        "hint: 2 syncs are held; to see why, and to approve it: phasesync syncs plan --all"
    ]
    told = many("syncs", "run", "--app", "shop", "--status", "held,failing")
    assert told.stderr.strip().endswith("phasesync syncs plan --app shop --status held")
    assert many("syncs", "run", "docs", "web").stderr.count("phasesync syncs approve web --plan") == 1

    many.done("syncs", "pause", "--app", "shop")
    for command in ("run", "trigger"):
        told = many("syncs", command, "--all")
        lines = [line for line in told.stderr.splitlines() if line.startswith(("error", "hint"))]
        assert lines == ["error: 2 syncs are paused, and were left alone", "hint: phasesync syncs resume --all"]
        assert told.stdout.count("paused") == (4 if command == "run" else 2)
    assert many("syncs", "run", "--status", "paused").stderr.strip().endswith("syncs resume --status paused")


# --- plan and approve


def drop_keys(many: CommandLine) -> None:
    """Run all; then drop so many keys of shop/prod that its syncs are held."""
    many.done("syncs", "run", "--all")
    for key in ("KEY_1", "KEY_2", "KEY_3"):
        many.done("secrets", "unset", "shop/prod", key)


def test_plans_of_several_say_whether_any_has_changes(many: CommandLine) -> None:
    many.done("syncs", "run", "api", "docs")
    told = many("syncs", "plan", "--all", "--detailed-exitcode")
    assert told.exit_code == 3
    counts = dict(line.split()[:2] for line in told.stdout.splitlines()[1:4])
    assert counts == {"api": "none", "docs": "none", "web": "1"}
    assert "web:\ncreate          secret/web" in told.stdout
    assert told.stderr.count("identity: account") == 2
    assert many("syncs", "plan", "api", "docs", "--detailed-exitcode").exit_code == 0


def test_one_digest_approves_all_held_plans_that_are_shown(many: CommandLine, aws: Aws) -> None:
    drop_keys(many)
    plan = many.json("syncs", "plan", "--all")
    assert [item["held"] for item in plan["items"]] == [["secret/api"], [], ["secret/web"]]
    assert plan["digest"] not in {item["digest"] for item in plan["items"]}
    told = many.done("syncs", "plan", "--all").stderr
    assert f"held until: phasesync syncs approve --all --plan {plan['digest']}" in told
    assert told.count("held until") == 1

    done = several(many, "approve", "--all", "--plan", plan["digest"])

    assert {item["name"]: len(item["approved"]) for item in done["items"]} == {"api": 1, "web": 1}
    again = many.done("syncs", "approve", "api", "web", "--plan", plan["digest"])
    assert again.stdout.count("approved already") == 2
    many.done("syncs", "run", "--all")
    assert set(json.loads(aws.secret_text("secret/web"))) == {"KEY_0"}
    assert many.json("syncs", "plan", "--all")["digest"] is None


def test_if_anything_differs_nothing_is_approved(many: CommandLine) -> None:
    drop_keys(many)
    before = many.json("syncs", "plan", "--all")["digest"]
    for command in (("api", "docs"), ("--credential", "other")):
        assert many("syncs", "approve", *command, "--plan", before).exit_code == 4
    many.done("secrets", "set", "shop/prod", "KEY_0", "-", stdin="other")

    refused = many("syncs", "approve", "--all", "--plan", before)

    now = many.json("syncs", "plan", "--all")
    assert refused.exit_code == 4
    assert f"have the digest {now['digest']}, not {before}: nothing was approved" in refused.stderr
    assert "hint: look at them again: phasesync syncs plan --all" in refused.stderr
    assert [item["held"] for item in now["items"]] == [["secret/api"], [], ["secret/web"]]


def test_a_sync_that_cannot_be_planned_is_told_among_the_others(many: CommandLine) -> None:
    many.done("secrets", "set", "site/prod", "BAD", "-", stdin="${NOWHERE}")
    told = many("syncs", "plan", "--all")
    assert told.exit_code == 1
    assert "docs" in told.stdout and "secret/web" in told.stdout
    assert "NOWHERE" in told.stderr


def test_plans_as_markdown_have_a_table_and_names_of_keys_but_no_values(many: CommandLine) -> None:
    drop_keys(many)
    text = many.done("syncs", "plan", "--all", "-o", "markdown").stdout
    digest = many.json("syncs", "plan", "--all")["digest"]
    assert text.startswith("### phasesync: 2 of 3 syncs would change\n")
    assert "| <code>docs</code> | - | - | in step |" in text
    assert "| <code>web</code> | 1 put | 1 | held |" in text
    assert text.count("<details>") == text.count("</details>") == 2
    assert "removed: <code>KEY&#95;1</code>" in text
    assert f"`phasesync syncs approve --all --plan {digest}`" in text
    assert "value-" not in text
    assert "would change" in many.done("syncs", "plan", "web", "-o", "markdown").stdout
