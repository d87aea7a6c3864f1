"""`phasesync notifications`, typed in: what it stores, what it shows once and never again, and what it refuses."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from phasesync.core.notification import Sent
from phasesync.store.notifications import NotificationStore
from tests.cli.conftest import CommandLine
from tests.cli.test_project import Documents, named
from tests.contracts.test_channels import PUBLISHED, sns_error
from tests.support.aws import Aws
from tests.support.receivers import HttpReceiver

CANARY = "kanarienvogel7f3a9c"
URL = f"https://hooks.example.com/services/{CANARY}"
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as started:
        yield started


@pytest.fixture
def documents(shop: CommandLine) -> Documents:
    return Documents(shop, shop.directory / "documents")


def test_a_webhook_gets_a_secret_that_is_printed_once(phasesync: CommandLine) -> None:
    added = phasesync.done("notifications", "add", "ops", "--to", "-", stdin=f"{URL}\n")
    assert "signing secret: whsec_" in added.stdout
    secret = added.stdout.split()[2]
    shown = [
        added.stderr,
        phasesync.done("notifications", "show", "ops").stdout,
        phasesync.done("notifications", "list", "-o", "json").stdout,
        phasesync.done("dump").stdout,
    ]
    assert [text for text in shown if CANARY in text or secret in text] == []
    with closing(sqlite3.connect(phasesync.directory / "data" / "phasesync.db")) as connection:
        stored = "\n".join(connection.iterdump()).encode()
    assert CANARY.encode() not in stored
    assert CANARY.encode().hex().encode() not in stored.lower()


def test_mail_without_a_server_is_a_warning(phasesync: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    add = ("notifications", "add", "--to")
    assert "no server for mail" in phasesync.done(*add, "mailto:ops@example.com", "ops").stderr
    own = "mailto:ops@example.com?smtp=smtp://mail.example.com"
    assert "no server for mail" not in phasesync.done(*add, own, "own").stderr
    monkeypatch.setenv("PHASESYNC_NOTIFICATIONS__SMTP_URL", "smtp://mail.example.com")
    assert "no server for mail" not in phasesync.done(*add, "mailto:ops@example.com", "settings").stderr


def test_the_list_names_the_command_that_says_why_a_message_is_not_sent(
    phasesync: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    phasesync.done("notifications", "add", "ops", "--to", "-", stdin=URL)
    assert "hint" not in phasesync.done("notifications", "list").stderr
    failed = Sent(pending=1, error="ChannelRejectedError", code="404")
    monkeypatch.setattr(NotificationStore, "sent", lambda self, ids: dict.fromkeys(ids, failed))
    listed = phasesync.done("notifications", "list")
    assert "hint: phasesync notifications test ops says" in listed.stderr
    assert "404" in listed.stdout
    shown = phasesync.json("notifications", "show", "ops")
    assert (shown["last_error"], shown["last_error_class"]) == ("404", "ChannelRejectedError")
    unknown = Sent(pending=1, error="InternalError")
    monkeypatch.setattr(NotificationStore, "sent", lambda self, ids: dict.fromkeys(ids, unknown))
    assert "InternalError" in phasesync.done("notifications", "list").stdout


def test_what_is_shown_of_a_notification(shop: CommandLine) -> None:
    on = ("--on", "held,recovered", "--on", "stale", "--app", "shop", "--after", "30m", "--remind-after", "0s")
    quiet = ("--quiet", "22:00-07:00 Mon,Tue Europe/Berlin; 2026-12-24 UTC")
    added = shop.json("notifications", "add", "ops", "--to", "-", *on, *quiet, stdin=URL)
    assert added.pop("signing_secret").startswith("whsec_")
    assert added.pop("created_at")
    assert added == {
        "name": "ops",
        "channel": "webhook",
        "to": "https://hooks.example.com/…",
        "signed": True,
        "on": ["held", "stale", "recovered"],
        "app": "shop",
        "after_s": 1800,
        "remind_after_s": 0,
        "quiet": ["22:00-07:00 Mon,Tue Europe/Berlin", "2026-12-24 UTC"],
        "sent_at": None,
        "pending": 0,
        "last_error": None,
        "last_error_class": None,
        "next_attempt_at": None,
        "error": None,
    }


def test_a_secret_on_the_command_line_is_taken_with_a_warning_and_not_repeated(phasesync: CommandLine) -> None:
    added = phasesync.done("notifications", "add", "ops", "--to", URL)
    assert "the URL of this channel is a secret" in added.stderr
    assert CANARY not in added.stderr
    plain = phasesync.done("notifications", "add", "mail", "--to", "mailto:ops@example.com")
    assert "is a secret" not in plain.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--to", f"ftp://{CANARY}"), "not a channel"),
        (("--to", URL, "--on", "helt"), "helt: no such condition"),
        (("--to", URL, "--on", "recovered"), "about nothing"),
        (("--to", URL, "--quiet", "25:00-07:00"), "no time of a day"),
        (("--to", URL, "--remind-after", "5s"), "comes too soon"),
        (("--to", URL, "--signing-secret", CANARY), "never taken from an argument"),
        (("--to", "mailto:a@example.com", "--signing-secret", "new"), "has no signing secret"),
        (("--to", "-"), "the channel is empty"),
    ],
)
def test_what_is_refused_repeats_no_secret(phasesync: CommandLine, words: tuple[str, ...], says: str) -> None:
    refused = phasesync("notifications", "add", "ops", *words, stdin="")
    assert (refused.exit_code, says in refused.stderr) == (2, True), refused.stderr
    assert CANARY not in refused.stderr
    assert phasesync.items("notifications", "list") == []


def test_who_is_not_told_that_it_is_over_is_told_so(phasesync: CommandLine) -> None:
    to = ("--to", "mailto:ops@example.com?smtp=smtp://localhost")
    added = phasesync.done("notifications", "add", "ops", *to, "--on", "held,halted")
    assert "nothing is sent when it is over; to have that: --on held,halted,recovered" in added.stderr
    assert "it is over" in phasesync.done("notifications", "update", "ops", "--after", "5m").stderr
    updated = phasesync.done("notifications", "update", "ops", "--on", "held,halted,recovered")
    assert "it is over" not in updated.stderr


def test_an_unknown_app_and_a_taken_name(phasesync: CommandLine) -> None:
    to = ("--to", "mailto:ops@example.com")
    assert phasesync("notifications", "add", "ops", *to, "--app", "shop").exit_code == 5
    phasesync.done("notifications", "add", "ops", *to)
    assert phasesync("notifications", "add", "OPS", *to).exit_code == 4
    assert phasesync("notifications", "show", "other").exit_code == 5


def test_an_update_changes_what_it_names_and_keeps_the_secret(shop: CommandLine) -> None:
    shop.done("notifications", "add", "ops", "--to", "-", "--app", "shop", "--quiet", "22:00-07:00", stdin=URL)
    updated = shop.json("notifications", "update", "ops", "--after", "1h", "--quiet", "", "--all-apps")
    assert (updated["after_s"], updated["quiet"], updated["app"], updated["signed"]) == (3600, [], None, True)
    assert updated["signing_secret"] is None
    assert shop.json("notifications", "update", "ops", "--signing-secret", "new")["signing_secret"]
    given = shop.json("notifications", "update", "ops", "--signing-secret", "-", stdin=SECRET)
    assert (given["signing_secret"], given["signed"]) == (None, True)
    assert shop("notifications", "update", "ops").exit_code == 2
    assert shop("notifications", "remove", "ops").exit_code == 2, "it asks"
    shop.done("notifications", "remove", "ops", "--yes")
    assert shop.items("notifications", "list") == []


def test_a_test_says_how_it_went(phasesync: CommandLine, receiver: HttpReceiver) -> None:
    phasesync.done("notifications", "add", "ops", "--to", f"http://127.0.0.1:{receiver.port}/{CANARY}")
    assert phasesync.json("notifications", "test", "ops")["delivered"] is True
    [request] = receiver.requests
    assert (request.document["type"], request.document["data"]["notification"]) == ("notification.test", "ops")
    receiver.status = 503
    failed = phasesync("notifications", "test", "ops")
    assert failed.exit_code == 7
    assert CANARY not in failed.stdout + failed.stderr


def test_the_test_of_a_topic_says_who_publishes(
    phasesync: CommandLine, aws: Aws, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A topic that is missing, too; and the identity of this shell is no condition."""
    arn = "arn:aws:sns:eu-west-1:123456789012:ops"
    phasesync.done("notifications", "add", "ops", "--to", f"sns:{arn}")
    phasesync.done("credentials", "add", "publisher", "--type", "ambient", "--region", "eu-west-1")
    phasesync.done("notifications", "add", "own", "--to", f"sns:{arn}?credential=publisher")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", f"http://127.0.0.1:{receiver.port}")
    receiver.status, receiver.body, receiver.headers = 200, PUBLISHED.encode(), {"content-type": "text/xml"}
    for name in ("ops", "own"):
        said = phasesync.done("notifications", "test", name).stderr
        assert "identity: account 123456789012, arn:aws:" in said
    assert "identity" not in phasesync.done("notifications", "test", "ops", "--dry-run").stderr

    receiver.status, receiver.body = 404, sns_error("NotFound").encode()
    refused = phasesync("notifications", "test", "ops")
    assert refused.exit_code == 7
    assert "identity: account 123456789012" in refused.stderr
    assert "hint: the account has no such topic in this Region" in refused.stderr

    receiver.status, receiver.body = 200, PUBLISHED.encode()
    with closing(socket.create_server(("127.0.0.1", 0))) as unused:
        port = unused.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("PHASESYNC_AWS__MAX_ATTEMPTS", "1")
    assert (
        "warning: the identity is not known: sts:GetCallerIdentity"
        in phasesync.done("notifications", "test", "ops").stderr
    )


# --- as code

NOTIFICATION = """
notifications:
  - {name: ops, to: "mailto:ops@example.com", conditions: [held, halted, recovered], after: 15m, app: shop}
  - {name: hook, to: {file: hook.url}, signing_secret: {env: HOOK_SECRET}, quiet: ["22:00-07:00 Europe/Berlin"]}
"""


def test_notifications_as_code(documents: Documents, monkeypatch: pytest.MonkeyPatch) -> None:
    (documents.folder / "hook.url").write_text(f"{URL}\n")
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    documents.write(NOTIFICATION)
    shown = documents.shell.done("diff", "-f", str(documents.folder)).stdout
    assert CANARY not in shown
    documents.apply()
    assert documents.diff()["changes"] == []
    items = {item["name"]: item for item in documents.shell.items("notifications", "list")}
    assert (items["ops"]["on"], items["ops"]["after_s"], items["ops"]["app"]) == (
        ["held", "halted", "recovered"],
        900,
        "shop",
    )
    assert (items["hook"]["to"], items["hook"]["quiet"]) == (
        "https://hooks.example.com/…",
        ["22:00-07:00 Europe/Berlin"],
    )

    (documents.folder / "hook.url").write_text(f"{URL}2")
    assert named(documents.diff()) == [("update", "notification", "hook")]
    documents.apply()
    documents.shell.done("notifications", "update", "ops", "--after", "1h")
    assert named(documents.diff()) == [("update", "notification", "ops")]

    documents.write(
        NOTIFICATION.replace('  - {name: ops, to: "mailto:ops@example.com"', "  - {name: more, to: {env: X}")
    )
    assert "new, and has no channel" in documents.refused(2, "apply")
    documents.write("notifications:\n  - {name: hook}\n")
    documents.apply("--prune", "--yes")
    assert [item["name"] for item in documents.shell.items("notifications", "list")] == ["hook"]


def test_apply_warns_of_mail_without_a_server(documents: Documents, monkeypatch: pytest.MonkeyPatch) -> None:
    mail = "notifications:\n  - {name: ops, to: 'mailto:ops@example.com'}\n  - {name: hook, to: {env: MAIL}}\n"
    documents.write(mail)
    monkeypatch.setenv("MAIL", "mailto:ops@example.com?smtp=smtp://mail.example.com")
    (warning,) = documents.apply("--dry-run")["warnings"]
    assert warning.startswith("the notification ops: these settings have no server for mail")
    assert documents.apply()["warnings"] == [warning]
    assert documents.apply()["warnings"] == [], "nothing is changed"

    monkeypatch.setenv("PHASESYNC_NOTIFICATIONS__SMTP_URL", "smtp://mail.example.com")
    documents.write(mail.replace("ops@", "all@"))
    assert documents.apply()["warnings"] == []


def test_a_dump_can_be_applied_again(documents: Documents, monkeypatch: pytest.MonkeyPatch) -> None:
    documents.shell.done("notifications", "add", "ops", "--to", "mailto:ops@example.com", "--quiet", "22:00-07:00 UTC")
    documents.shell.done("notifications", "add", "hook", "--to", "-", stdin=URL)
    dumped = documents.shell.done("dump").stdout
    assert CANARY not in dumped
    (documents.folder / "dumped.yaml").write_text(dumped)
    monkeypatch.setenv("HOOK_CHANNEL", URL)
    documents.apply()
    assert documents.diff()["changes"] == []


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (f"{{name: ops, to: '{URL}'}}", "is a secret, which is never written in a document"),
        ("{name: ops, to: 'mailto:a@example.com', conditions: [helt]}", "helt"),
        ("{name: ops, to: 'mailto:a@example.com', conditions: [recovered]}", "about nothing"),
        (f"{{name: ops, to: 'https://x', signing_secret: {CANARY}}}", "never written in a document"),
        ("{name: ops, to: 'mailto:a@example.com', app: shpo}", "did you mean shop"),
        ("{name: ops, to: 'mailto:a@example.com', remind_after: 5s}", "too soon"),
    ],
)
def test_what_a_document_says_wrong(documents: Documents, item: str, says: str) -> None:
    documents.write(f"notifications:\n  - {item}\n")
    refused = documents.refused(2, "diff")
    assert says in refused
    assert CANARY not in refused
