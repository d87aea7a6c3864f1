"""Mail: encrypted or not at all, one transaction for all recipients, nothing that can add a header."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phasesync.adapters.channels import ChannelSenders, connection
from phasesync.adapters.channels.mail import MailSettings, as_mail
from phasesync.bootstrap.app import mail_settings
from phasesync.core.channels import parse_channel, parse_mail_server
from phasesync.core.model import SecretValue
from phasesync.core.notification_message import Message
from phasesync.errors import ChannelRejectedError, ChannelUnavailableError
from phasesync.settings.load import load_settings
from tests.support.aws_builders import HandClock
from tests.support.messages import CANARY, MESSAGE, NOW
from tests.support.receivers import Certificates, SmtpServer, make_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def trusted(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    """The authority of the certificates is known to this host."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    return certificates


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    with SmtpServer() as made:
        yield made


def none(*_: object) -> Any:
    raise AssertionError("mail needs no credential")


def send(url: str, settings: MailSettings | None = None, message: Message = MESSAGE) -> str | None:
    """Send a message by mail."""
    mail = settings or MailSettings()
    senders = ChannelSenders(clock=HandClock(NOW), clients=none, credential_of=none, mail=lambda: mail, within_s=5)
    return senders.send(parse_channel(url), message)


def at(server: SmtpServer, login: str = "", scheme: str = "smtp", host: str = "localhost") -> str:
    """Return a channel of two recipients at a server."""
    return f"mailto:a@example.com,b@example.com?smtp={scheme}://{login}{host}:{server.port}"


# --- encryption


def test_starttls_comes_before_the_sign_in_and_the_mail(trusted: Certificates) -> None:
    """The password and the mail are seen by the server alone."""
    with SmtpServer(context=trusted.context, login=("me@example.com", CANARY)) as server:
        assert send(at(server, f"me%40example.com:{CANARY}@")) is None

    mail = server.mails[0]
    assert (mail.encrypted, mail.login) == (True, "me@example.com")
    assert mail.sender == "me@example.com"
    assert mail.recipients == ["a@example.com", "b@example.com"]


def test_smtps_begins_with_tls(trusted: Certificates) -> None:
    """Before a word is said."""
    with SmtpServer(context=trusted.context, implicit_tls=True) as server:
        send(at(server, scheme="smtps"))

    assert server.mails[0].encrypted


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_server_with_an_unknown_certificate_is_told_nothing(certificates: Certificates, scheme: str) -> None:
    """Neither password nor mail."""
    with (
        SmtpServer(context=certificates.context, implicit_tls=scheme == "smtps", login=("me", CANARY)) as server,
        pytest.raises(ChannelUnavailableError, match="authority that this host does not know") as caught,
    ):
        send(at(server, f"me:{CANARY}@", scheme))

    assert not server.mails
    assert not any(command.startswith(("AUTH", "MAIL")) for command in server.commands)
    assert "SSL_CERT_FILE" in str(caught.value.hint)


def test_a_server_elsewhere_without_encryption_is_told_nothing(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only on this machine mail goes unencrypted."""
    monkeypatch.setattr(
        connection,
        "look_up",
        lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))],
    )
    with pytest.raises(ChannelRejectedError, match="offers no encryption") as caught:
        send(at(server, f"me:{CANARY}@", host="mail.example.com"))

    assert [command.partition(" ")[0].upper() for command in server.commands] == ["EHLO"]
    assert "smtps://" in str(caught.value.hint)


# --- signing in


def test_the_password_comes_from_a_file_that_is_read_each_time(server: SmtpServer, tmp_path: Path) -> None:
    """So a new one counts at once."""
    file = tmp_path / "password"
    server.login = ("me", CANARY)
    settings = MailSettings(server=parse_mail_server(f"smtp://me@127.0.0.1:{server.port}"), password_file=file)
    file.write_text("old\n")
    with pytest.raises(ChannelRejectedError, match=r"refuses user or password \(SMTP 535\)") as caught:
        send("mailto:a@example.com", settings)
    file.write_text(f"{CANARY}\n")
    send("mailto:a@example.com", settings)

    assert server.mails[0].login == "me"
    assert "smtp_password_file" in str(caught.value.hint)
    assert "old" not in caught.value.message


def test_a_password_of_the_settings_goes_to_no_other_server(server: SmtpServer) -> None:
    """A channel that names a server brings its own."""
    settings = MailSettings(server=parse_mail_server("smtp://me@127.0.0.1:9"), password=SecretValue(CANARY))
    server.login = ("me", CANARY)
    with pytest.raises(ChannelRejectedError, match="no password is set"):
        send(at(server, "me@"), settings)

    assert not any(command.startswith("AUTH") for command in server.commands)


@pytest.mark.parametrize(
    ("content", "says"), [(None, "No such file"), (b"\xff\xfe", "not text"), (b"x" * 5_000, "larger than")]
)
def test_a_password_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    """With its setting."""
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    settings = MailSettings(server=parse_mail_server("smtp://me@127.0.0.1:9"), password_file=file)
    with pytest.raises(ChannelRejectedError) as caught:
        send("mailto:a@example.com", settings)

    assert str(file) in caught.value.message and says in caught.value.message
    assert "smtp_password_file" in str(caught.value.hint)


def test_a_server_that_takes_no_sign_in_and_a_password_beyond_ascii_are_told(server: SmtpServer) -> None:
    """Neither shows the password."""
    with pytest.raises(ChannelRejectedError, match="takes no sign-in"):
        send(at(server, f"me:{CANARY}@"))
    server.login = ("me", CANARY)
    with pytest.raises(ChannelRejectedError, match="beyond ASCII") as caught:
        send(at(server, f"me:{CANARY}%C3%BC@"))

    assert CANARY not in caught.value.message


def test_the_settings_lead_to_the_mail_server(tmp_path: Path) -> None:
    """As they are written in the file and in variables."""
    environ = {
        "PHASESYNC_NOTIFICATIONS__SMTP_URL": "smtps://me@mail.example.com",
        "PHASESYNC_NOTIFICATIONS__SMTP_PASSWORD": CANARY,
        "PHASESYNC_NOTIFICATIONS__MAIL_FROM": "phasesync@example.com",
    }
    mail = mail_settings(load_settings(environ=environ).settings)

    assert mail.server is not None and mail.server.shown == "smtps://me@mail.example.com:465"
    assert mail.password is not None and mail.password.reveal_text() == CANARY
    assert mail.sender == "phasesync@example.com"
    assert CANARY not in repr(mail)


# --- the mail


def test_a_mail_has_what_lets_programs_drop_sort_and_not_answer_it(server: SmtpServer) -> None:
    """Its Message-ID is the same when it is sent again."""
    settings = MailSettings(sender="phasesync@example.com")
    send(at(server), settings)
    send(at(server), settings)
    first, second = (mail.message for mail in server.mails)

    assert first["Message-ID"] == second["Message-ID"] == "<0199-message-1@example.com>"
    assert first["Subject"] == MESSAGE.title
    assert first["From"] == "phasesync@example.com"
    assert first["To"] == "a@example.com, b@example.com"
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["X-Phasesync-Condition"] == "held"
    assert first.get_content().replace("\r\n", "\n") == f"{MESSAGE.text}\n"


def test_no_title_and_no_name_can_add_a_header_or_end_the_mail(server: SmtpServer) -> None:
    """Line breaks of every kind, and a line with a dot."""
    hostile = replace(
        MESSAGE,
        title="held\r\nBcc: x@example.com\u2028X: y\x00",
        id="1@evil>\r\nBcc: x",
        text="one\n.\nMAIL FROM:<x@example.com>\nü",
    )
    send(at(server), message=hostile)
    mail = server.mails[0].message

    assert len(server.mails) == 1
    assert "Bcc" not in mail and "X" not in mail
    assert mail["Subject"] == "held Bcc: x@example.com X: y"
    assert mail.get_content().replace("\r\n", "\n") == f"{hostile.text}\n"


def test_a_long_title_is_cut() -> None:
    """Few programs show more."""
    data = as_mail(replace(MESSAGE, title="ü" * 900), "a@example.com", ["b@example.com"])

    assert max(len(line) for line in data.splitlines()) < 998
    assert len(data) < 3_000


# --- refusals


def test_a_refused_address_does_not_keep_the_mail_from_the_others(server: SmtpServer) -> None:
    """And is told."""
    server.answers["RCPT b@example.com"] = f"550 5.1.1 {CANARY}"

    note = send(at(server))

    assert note == "1 of 2 addresses were refused (SMTP 550); the others were accepted"
    assert server.mails[0].recipients == ["a@example.com"]


@pytest.mark.parametrize(
    ("answers", "error", "says"),
    [
        ({"RCPT": "550 no"}, ChannelRejectedError, "refuses the recipients (SMTP 550)"),
        ({"RCPT a@example.com": "550 no", "RCPT b@example.com": "450 busy"}, ChannelUnavailableError, "(SMTP 450)"),
        ({"MAIL": "553 no"}, ChannelRejectedError, "refuses the sender (SMTP 553)"),
        ({"MAIL": "421 later"}, ChannelUnavailableError, "refuses the sender (SMTP 421)"),
        ({"DATA": "554 no"}, ChannelRejectedError, "refuses the message (SMTP 554)"),
        ({".": "552 too large"}, ChannelRejectedError, "refuses the message (SMTP 552)"),
        ({"greeting": "554 no"}, ChannelRejectedError, "takes no connection now (SMTP 554)"),
        ({"greeting": "421 busy"}, ChannelUnavailableError, "takes no connection now (SMTP 421)"),
    ],
)
def test_a_refusal_is_final_or_not_by_its_code(
    server: SmtpServer, answers: dict[str, str], error: type[Exception], says: str
) -> None:
    """RFC 5321, 4.2.1: 4 means later, 5 means no."""
    server.answers |= answers
    with pytest.raises(error) as caught:
        send(at(server))

    assert says in str(caught.value)
    assert not server.mails


def test_a_lost_answer_leaves_the_mail_to_be_sent_again_with_the_same_id(server: SmtpServer) -> None:
    """It may have been delivered, and may not."""
    server.drops_after_data = True
    with pytest.raises(ChannelUnavailableError, match="connection was closed"):
        send(at(server))
    server.drops_after_data = False
    send(at(server))

    assert len({mail.message["Message-ID"] for mail in server.mails}) == 1
