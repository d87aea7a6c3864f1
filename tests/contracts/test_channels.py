"""What every kind of channel does, against real servers on this machine: good ones, and those that behave badly."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest

from phasesync.adapters.aws.sdk import CallLimits
from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.channels import SEND_WITHIN_S, ChannelSenders
from phasesync.adapters.channels.mail import MailSettings
from phasesync.core.channels import Channel, Topic, parse_channel
from phasesync.core.credential import daemon_identity
from phasesync.core.notification_message import Message
from phasesync.core.webhook_signature import new_signing_secret
from phasesync.errors import (
    ChannelError,
    ChannelRejectedError,
    ChannelUnavailableError,
    NotFoundError,
)
from phasesync.ports.channels import ChannelSender
from tests.support.aws_builders import INSTANCE, HandClock, no_sources
from tests.support.messages import CANARY, MESSAGE, NOW
from tests.support.raw_http import TcpServer, port_that_refuses
from tests.support.receivers import HttpReceiver, SmtpServer

KINDS = ("webhook", "slack", "sns", "mail")
TOPIC = "arn:aws:sns:eu-west-1:123456789012:alerts"
WITHIN_S = 0.4


@dataclass
class Sending:
    """Sends messages to channels at a port of this machine."""

    sender: ChannelSender
    hasty: ChannelSender
    """The same with little time for a message: for servers that use up all of it."""
    environ: pytest.MonkeyPatch
    open_clients: Callable[[], AwsClients]

    def channel(self, kind: str, port: int, host: str = "127.0.0.1") -> Channel:
        """Return a channel of a kind that leads to a port."""
        if kind == "webhook":
            secret = new_signing_secret(CANARY.encode().ljust(32, b"."))
            return parse_channel(f"http://{host}:{port}/{CANARY}?token={CANARY}", signing_secret=secret)
        if kind == "slack":
            return parse_channel(f"slack://{host}:{port}/services/{CANARY}")
        if kind == "mail":
            return parse_channel(f"mailto:a@example.com,b@example.com?smtp=smtp://me:{CANARY}@{host}:{port}")
        self.environ.setenv("AWS_ENDPOINT_URL_SNS", f"http://{host}:{port}")
        topic = parse_channel(TOPIC)
        assert isinstance(topic, Topic)
        # Clients keep their endpoint, and to make one takes as long as a message may take here.
        self.open_clients().client(daemon_identity(topic.region), "sns", topic.region, once=True)
        return topic

    def send(self, kind: str, port: int, message: Message = MESSAGE) -> str | None:
        """Send a message."""
        return self.sender.send(self.channel(kind, port), message)

    def refusal(self, kind: str, port: int, *, hasty: bool = False) -> ChannelError:
        """Return the error of a message that is not delivered."""
        channel = self.channel(kind, port)
        with pytest.raises(ChannelError) as caught:
            (self.hasty if hasty else self.sender).send(channel, MESSAGE)
        assert CANARY not in f"{caught.value!r} {caught.value.message} {caught.value.hint}"
        assert caught.value.__cause__ is None and caught.value.__context__ is None
        return caught.value


@pytest.fixture
def sending(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sending]:
    for name in ("AWS_PROFILE", "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    clock = HandClock(NOW)
    opened: list[AwsClients] = []

    def open_clients() -> AwsClients:
        limits = CallLimits(connect_timeout_s=1, read_timeout_s=1, attempts=3)
        opened.append(AwsClients(source_of=no_sources, clock=clock, instance_id=INSTANCE, limits=limits))
        return opened[-1]

    def credential_of(name: str) -> Any:
        raise NotFoundError(f"there is no credential {name}")

    def senders(within_s: float) -> ChannelSenders:
        return ChannelSenders(
            clock=clock,
            clients=lambda: opened[-1] if opened else open_clients(),
            credential_of=credential_of,
            mail=MailSettings,
            within_s=within_s,
        )

    yield Sending(senders(SEND_WITHIN_S), senders(WITHIN_S), monkeypatch, open_clients)
    for each in opened:
        each.close()


# --- servers that do what they should

PUBLISHED = (
    '<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult><MessageId>m</MessageId>'
    "</PublishResult><ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></PublishResponse>"
)


def sns_error(code: str) -> str:
    """Return how SNS refuses a call; its message repeats what was sent."""
    return (
        '<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{CANARY}</Message></Error><RequestId>r-1</RequestId></ErrorResponse>"
    )


@dataclass
class Server:
    """A well-behaved receiver of one kind."""

    port: int
    received: Callable[[], int]
    answer: Callable[[str], None]
    """Answer from now on as the word says: refused, later."""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def server(kind: str) -> Iterator[Server]:
    if kind == "mail":
        with SmtpServer(login=("me", CANARY)) as smtp:
            told = {"refused": f"550 no {CANARY}", "later": f"451 later {CANARY}"}
            yield Server(smtp.port, lambda: len(smtp.mails), lambda word: smtp.answers.update({".": told[word]}))
        return
    with HttpReceiver() as http:

        def answer(word: str) -> None:
            http.status = {"refused": 403, "later": 503}[word]
            http.headers["retry-after"] = "7"
            code = {"refused": "AuthorizationError", "later": "InternalError"}[word]
            http.body = (sns_error(code) if kind == "sns" else CANARY).encode()

        if kind == "sns":
            http.status, http.body, http.headers = 200, PUBLISHED.encode(), {"content-type": "text/xml"}
        yield Server(http.port, lambda: len(http.requests), answer)


def test_a_message_is_delivered_once(sending: Sending, kind: str, server: Server) -> None:
    """Nothing is said if all is well."""
    assert sending.send(kind, server.port) is None
    assert server.received() == 1


def test_a_refused_message_is_not_sent_again_and_the_error_names_the_fix(
    sending: Sending, kind: str, server: Server
) -> None:
    """What the receiver writes is not repeated: it may write anything."""
    server.answer("refused")

    error = sending.refusal(kind, server.port)

    assert isinstance(error, ChannelRejectedError)
    assert error.code in ("403", "550", "AuthorizationError")
    assert error.hint or kind == "mail"
    assert server.received() == (0 if kind == "mail" else 1)


def test_a_message_that_is_not_taken_now_is_left_to_the_caller(sending: Sending, kind: str, server: Server) -> None:
    """It is tried once: who sends has an outbox, and repeats it."""
    server.answer("later")

    error = sending.refusal(kind, server.port)

    assert isinstance(error, ChannelUnavailableError)
    assert server.received() == (0 if kind == "mail" else 1)
    if kind in ("webhook", "slack"):
        assert error.retry_after is not None and error.retry_after.total_seconds() == 7


# --- servers that do not


def say_nothing(connection: socket.socket) -> None:
    """Wait for the other side to go."""
    while connection.recv(65_536):
        pass


def drip(connection: socket.socket) -> None:
    """Send one byte at a time, for ever: each of them comes within any time-out between two bytes."""
    while True:
        connection.sendall(b"2")
        time.sleep(0.02)


def drip_headers(connection: socket.socket) -> None:
    """The same after a beginning that is right."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nx-dripping: ")
    drip(connection)


def flood(connection: socket.socket) -> None:
    """Send without end."""
    while True:
        connection.sendall(b"2" * 65_536)


def flood_lines(connection: socket.socket) -> None:
    """Send lines without end, of the kind that says that there are more."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"220-more: \r\n" * 1_000)


def close(connection: socket.socket) -> None:
    """End at once."""


def garbage(connection: socket.socket) -> None:
    """Answer what belongs to no protocol."""
    connection.sendall(b"\x00\xff\x16garbage\r\n\r\n" * 20)
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
    say_nothing(connection)


@pytest.mark.parametrize("script", [say_nothing, drip, drip_headers, flood, flood_lines, close, garbage])
def test_a_server_that_behaves_badly_costs_no_more_than_the_time_of_one_message(
    sending: Sending, kind: str, script: Callable[[socket.socket], None]
) -> None:
    """No drip, no flood and no silence holds the thread, and the message can be sent again."""
    begun = time.monotonic()
    with TcpServer(script) as server:
        error = sending.refusal(kind, server.port, hasty=True)

    assert isinstance(error, ChannelUnavailableError)
    assert error.code in ("timeout", "no-answer", "bad-answer", "connection-closed")
    assert time.monotonic() - begun < SEND_WITHIN_S, "far more than it has, since the machine may be slow"
    assert server.connections <= 1


def test_a_closed_port_is_told(sending: Sending, kind: str) -> None:
    """And where to look."""
    with port_that_refuses() as port:
        error = sending.refusal(kind, port)

    assert isinstance(error, ChannelUnavailableError)
    assert error.code == ("unreachable" if kind == "sns" else "connection-refused")
    assert error.hint


NAMED = ("slack", "mail", "webhook")


def named(kind: str, domain: str = "example.com") -> Channel:
    """Return a channel whose host has to be resolved."""
    return parse_channel(
        {
            "webhook": f"https://hooks.{domain}/{CANARY}",
            "slack": f"slack://slack.{domain}/services/{CANARY}",
            "mail": f"mailto:a@example.com?smtp=smtp://me:{CANARY}@mail.{domain}",
        }[kind]
    )


@pytest.mark.parametrize("kind", NAMED)
def test_an_unknown_name_is_told(sending: Sending, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be known later, so the message is kept."""

    def unknown(*_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, f"{CANARY} not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    with pytest.raises(ChannelUnavailableError, match="not known to the DNS server") as caught:
        sending.sender.send(named(kind), MESSAGE)

    assert CANARY not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("kind", NAMED)
def test_a_dns_server_that_never_answers_holds_nothing(
    sending: Sending, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's own resolution has no time limit."""
    answered = threading.Event()

    def never(*_: object, flags: int = 0, **__: object) -> Any:
        if not flags & socket.AI_NUMERICHOST:
            answered.wait(10)
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    begun = time.monotonic()
    try:
        with pytest.raises(ChannelUnavailableError, match="DNS server does not answer"):
            sending.hasty.send(named(kind, "slow.example.com"), MESSAGE)
        assert time.monotonic() - begun < 9, "before the name server answers"
    finally:
        answered.set()


@pytest.mark.parametrize("kind", NAMED)
@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "::ffff:169.254.170.2", "fe80::1"])
def test_a_name_that_leads_to_the_metadata_of_a_cloud_is_refused(
    sending: Sending, kind: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name can be pointed anywhere after it was checked, so the address is checked that is connected to."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    answer = [(family, socket.SOCK_STREAM, 6, "", (address, 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)

    with pytest.raises(ChannelRejectedError, match="gives out identities"):
        sending.sender.send(named(kind), MESSAGE)


@pytest.mark.parametrize("kind", ["webhook", "slack"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(sending: Sending, kind: str, status: int) -> None:
    """It could lead anywhere, with the message."""
    with HttpReceiver() as elsewhere, HttpReceiver() as server:
        server.status = status
        server.headers["location"] = f"http://127.0.0.1:{elsewhere.port}/{CANARY}"
        error = sending.refusal(kind, server.port)

    assert isinstance(error, ChannelRejectedError)
    assert "redirect" in error.message and "write the URL" in str(error.hint)
    assert not elsewhere.requests


@pytest.mark.parametrize("kind", ["webhook", "slack"])
@pytest.mark.parametrize(
    ("status", "error"), [(403, ChannelRejectedError), (503, ChannelUnavailableError), (200, None)]
)
def test_a_status_counts_however_long_the_body_is(
    sending: Sending, kind: str, status: int, error: type[ChannelError] | None
) -> None:
    """A body that never ends takes nothing back of what was said."""

    def endless(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(f"HTTP/1.1 {status} X\r\nconnection: close\r\n\r\n".encode())
        flood(connection)

    with TcpServer(endless) as server:
        if error is None:
            sending.send(kind, server.port)
        else:
            assert type(sending.refusal(kind, server.port)) is error


# --- secrets


@pytest.mark.parametrize("script", [say_nothing, garbage, close])
def test_no_log_line_of_any_library_has_a_secret_of_a_channel(
    sending: Sending,
    kind: str,
    server: Server,
    script: Callable[[socket.socket], None],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Even if somebody sets all loggers to DEBUG."""
    caplog.set_level(logging.DEBUG)
    sending.send(kind, server.port)
    with TcpServer(script) as bad:
        sending.refusal(kind, bad.port, hasty=True)

    printed = capfd.readouterr()
    assert CANARY not in f"{caplog.text} {printed.out} {printed.err}"


def test_a_planted_leak_is_found(caplog: pytest.LogCaptureFixture) -> None:
    """The search above can fail."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("urllib3").warning("POST /%s", CANARY)
    assert CANARY in caplog.text


def test_a_long_message_with_hostile_names_stays_within_the_limits(sending: Sending, kind: str, server: Server) -> None:
    """Line breaks, markup and a length that no receiver takes."""
    hostile = replace(
        MESSAGE,
        title="held\r\nBcc: x@example.com <!channel> ü" * 20,
        text="<!channel> & line\n.\nMAIL FROM:<x>\n" * 5_000,
    )

    assert sending.send(kind, server.port, hostile) is None
    assert server.received() == 1


def test_mail_without_any_server_names_the_setting(sending: Sending) -> None:
    """Both ways to name one."""
    with pytest.raises(ChannelRejectedError) as caught:
        sending.sender.send(parse_channel("mailto:a@example.com"), MESSAGE)

    assert "PHASESYNC_NOTIFICATIONS__SMTP_URL" in str(caught.value.hint)


def test_a_topic_of_a_missing_credential_names_it(sending: Sending) -> None:
    """It may have been renamed."""
    with pytest.raises(ChannelRejectedError, match="there is no credential gone"):
        sending.sender.send(parse_channel(f"{TOPIC}?credential=gone"), MESSAGE)
