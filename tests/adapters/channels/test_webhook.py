"""What a webhook carries, and that a receiver can check it as docs/webhooks.md says."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from phasesync.adapters.channels import ChannelSenders
from phasesync.adapters.channels.mail import MailSettings
from phasesync.core.channels import parse_channel
from phasesync.core.model import SecretValue
from phasesync.core.notification_document import MAX_SUBJECTS, document_of
from phasesync.core.notification_message import Message
from phasesync.core.webhook_signature import new_signing_secret
from phasesync.errors import ChannelRejectedError, ChannelUnavailableError
from tests.support.aws_builders import HandClock
from tests.support.messages import CANARY, MESSAGE
from tests.support.receivers import HttpReceiver, Request, make_certificates

GUIDE = Path(__file__).parents[3] / "docs" / "webhooks.md"
SECRET = new_signing_secret(bytes(range(32)))


def fenced(language: str, number: int = 0) -> str:
    """Return a code block of the guide."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    text: str = blocks[number]
    return text


Send = Callable[..., None]


@pytest.fixture
def clock() -> HandClock:
    return HandClock(datetime.now(UTC))


@pytest.fixture
def send(clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> Send:
    """Sends a message to a URL."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)

    def none(*_: object) -> Any:
        raise AssertionError("a webhook needs no credential")

    senders = ChannelSenders(clock=clock, clients=none, credential_of=none, mail=MailSettings, within_s=5)

    def to(url: str, message: Message = MESSAGE, secret: SecretValue | None = SECRET) -> None:
        assert senders.send(parse_channel(url, signing_secret=secret), message) is None

    return to


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as made:
        yield made


@pytest.fixture
def url(receiver: HttpReceiver) -> str:
    return f"http://127.0.0.1:{receiver.port}/{CANARY}?a=b"


# --- the check


def in_python(secret: str, request: Request) -> bool:
    """Check a request with the code of the guide."""
    names: dict[str, Any] = {}
    exec(fenced("python"), names)
    answer: bool = names["is_new_message"](secret, request.headers, request.body, set())
    return answer


def in_shell(secret: str, request: Request) -> bool:
    """Check a request with the commands of the guide."""
    headers = request.headers
    variables = {
        "secret": secret,
        "id": headers["webhook-id"],
        "timestamp": headers["webhook-timestamp"],
        "signature": headers["webhook-signature"],
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }
    done = subprocess.run(["sh", "-c", fenced("sh")], input=request.body, env=variables, capture_output=True)
    assert done.returncode in (0, 1) and not done.stderr, done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("check", [in_python, in_shell])
def test_a_receiver_that_checks_as_the_guide_says_accepts_what_is_ours_and_nothing_else(
    send: Send, url: str, receiver: HttpReceiver, clock: HandClock, check: Callable[[str, Request], bool]
) -> None:
    """Another body, another id, another secret and another time are refused."""
    send(url)
    clock.turn(timedelta(minutes=-6))
    send(url)
    clock.turn(timedelta(minutes=12))
    send(url)
    request, old, early = receiver.requests
    secret = SECRET.reveal_text()

    def changed(**headers: str) -> Mapping[str, str]:
        return {**request.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}

    assert check(secret, request)
    assert check(secret, replace(request, headers=changed(webhook_signature=f"v1,AAAA {signature(request)}")))
    assert not check(secret, replace(request, body=request.body.replace(b"held", b"hell")))
    assert not check(secret, replace(request, headers=changed(webhook_id="another")))
    assert not check(secret, replace(request, headers=changed(webhook_signature="v1,AAAA")))
    assert not check(new_signing_secret(bytes(32)).reveal_text(), request)
    assert not check(secret, old)
    assert not check(secret, early)


def signature(request: Request) -> str:
    """Return the signature of a request."""
    return request.headers["webhook-signature"]


def test_a_repeated_message_has_the_same_id_and_body_and_a_new_time(
    send: Send, url: str, receiver: HttpReceiver, clock: HandClock
) -> None:
    """The receiver of the guide drops it."""
    send(url)
    clock.turn(timedelta(seconds=2))
    send(url)
    first, second = receiver.requests
    names: dict[str, Any] = {}
    exec(fenced("python"), names)
    ids: set[str] = set()

    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == MESSAGE.id
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    assert names["is_new_message"](SECRET.reveal_text(), first.headers, first.body, ids)
    assert not names["is_new_message"](SECRET.reveal_text(), second.headers, second.body, ids)


def test_without_a_secret_there_is_no_signature(send: Send, url: str, receiver: HttpReceiver) -> None:
    """The id is there all the same."""
    send(url, secret=None)

    assert "webhook-signature" not in receiver.requests[0].headers
    assert receiver.requests[0].headers["webhook-id"] == MESSAGE.id


# --- the document


def test_the_document_has_the_fields_of_the_guide(send: Send, url: str, receiver: HttpReceiver) -> None:
    """No more and no fewer; who adds one describes it there."""
    send(url)
    document, described = receiver.requests[0].document, json.loads(fenced("json", 1))

    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: shape(inner) for name, inner in value.items()}
        return [shape(value[0])] if isinstance(value, list) else type(value)

    assert receiver.requests[0].headers["content-type"] == "application/json"
    assert receiver.requests[0].path == f"/{CANARY}?a=b"
    assert shape(document) == shape(described)
    assert (document["type"], document["data"]["condition"]) == ("notification.first", "held")
    assert document["timestamp"] == "2026-11-29T08:00:00.000Z"


def test_a_digest_of_very_many_counts_those_that_it_does_not_name() -> None:
    """So that a document has a size that every channel takes."""
    message = replace(MESSAGE, subjects=MESSAGE.subjects * (MAX_SUBJECTS + 7), more=3)

    data: Any = document_of(message)["data"]

    assert len(data["subjects"]) == MAX_SUBJECTS
    assert data["more"] == 10


# --- answers


@pytest.mark.parametrize(
    ("status", "says", "hint"),
    [
        (400, "refuses the message (HTTP 400)", "what the receiver logs"),
        (401, "refuses the message (HTTP 401)", "signing secret"),
        (404, "refuses the message (HTTP 404)", "check the path"),
        (410, "wants no more messages (HTTP 410, gone)", "another channel, or remove it"),
        (413, "finds the message too large", "what the receiver logs"),
    ],
)
def test_a_refusal_says_what_to_do(
    send: Send, url: str, receiver: HttpReceiver, status: int, says: str, hint: str
) -> None:
    """And shows neither path nor body."""
    receiver.status, receiver.body = status, CANARY.encode()
    with pytest.raises(ChannelRejectedError) as caught:
        send(url)

    assert f"the webhook http://127.0.0.1:{receiver.port}/…" in caught.value.message
    assert says in caught.value.message and hint in str(caught.value.hint)
    assert caught.value.code == str(status)
    assert CANARY not in caught.value.message


NOW = datetime(2026, 11, 29, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("120", timedelta(minutes=2)),
        ("999999999999", timedelta(hours=1)),
        (format_datetime(NOW + timedelta(minutes=2), usegmt=True), timedelta(minutes=2)),
        (format_datetime(NOW - timedelta(minutes=2), usegmt=True), timedelta()),
        (format_datetime(NOW + timedelta(days=9), usegmt=True), timedelta(hours=1)),
        ("-5", None),
        ("soon", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_respected_up_to_an_hour(
    send: Send, url: str, receiver: HttpReceiver, header: str, wait: timedelta | None, status: int
) -> None:
    """As seconds, and as a date that is compared with the date of the answer, since clocks differ."""
    receiver.status = status
    receiver.headers |= {"retry-after": header, "date": format_datetime(NOW, usegmt=True)}
    with pytest.raises(ChannelUnavailableError) as caught:
        send(url)

    assert caught.value.retry_after == wait


# --- TLS and proxies


def test_a_certificate_is_verified_with_what_the_host_trusts(
    send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE names the authorities; the name has to be the one of the certificate."""
    certificates = make_certificates(tmp_path)
    with HttpReceiver(certificates.context) as receiver:
        with pytest.raises(ChannelUnavailableError, match="an authority that this host does not know") as unknown:
            send(f"https://localhost:{receiver.port}/{CANARY}")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
        with pytest.raises(ChannelUnavailableError, match="certificate is for another") as other:
            send(f"https://127.0.0.1:{receiver.port}/{CANARY}")
        send(f"https://localhost:{receiver.port}/{CANARY}")

    assert len(receiver.requests) == 1
    assert "SSL_CERT_FILE" in str(unknown.value.hint)
    assert CANARY not in f"{unknown.value.message} {other.value.message}"


def test_a_server_without_tls_is_told(send: Send, receiver: HttpReceiver) -> None:
    """Its answer is not shown."""
    with pytest.raises(ChannelUnavailableError, match="TLS fails"):
        send(f"https://127.0.0.1:{receiver.port}/{CANARY}")


def test_a_proxy_of_the_environment_is_used_and_told_nothing_but_the_host(
    send: Send, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS goes through it, so it sees neither path nor message."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:w%6Frd@127.0.0.1:{receiver.port}")
    with pytest.raises(ChannelUnavailableError, match="through a proxy") as caught:
        send(f"https://hooks.example.com/{CANARY}")

    asked = receiver.requests[0]
    assert asked.path == "hooks.example.com:443"
    assert asked.headers["proxy-authorization"] == "Basic bWU6d29yZA=="
    assert CANARY not in f"{asked} {caught.value.message}"
    assert "HTTPS_PROXY" in str(caught.value.hint)


def test_no_proxy_stands_before_this_machine_or_what_no_proxy_names(
    send: Send, url: str, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loopback address is another machine than ours."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    send(url)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{receiver.port}")
    monkeypatch.setenv("NO_PROXY", "example.com")

    def unknown(*_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ChannelUnavailableError, match="not known to the DNS server"):
        send("https://hooks.example.com/x")
    assert len(receiver.requests) == 1
