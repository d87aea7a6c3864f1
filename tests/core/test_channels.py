"""Channels: what an operator may write, what is shown of it, and what is never repeated."""

from datetime import UTC, datetime

import pytest

from phasesync.core.channels import (
    Channel,
    Mail,
    Slack,
    Topic,
    Webhook,
    is_loopback,
    is_metadata_address,
    parse_channel,
    parse_mail_server,
)
from phasesync.core.model import SecretValue
from phasesync.core.webhook_signature import check_signing_secret, new_signing_secret, signature_headers
from phasesync.errors import InvalidInputError

CANARY = "kanarienvogel"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:alerts"


@pytest.mark.parametrize(
    ("url", "kind", "shown"),
    [
        ("https://hooks.example.com", Webhook, "https://hooks.example.com"),
        (f"https://Hooks.example.com:8443/{CANARY}?a={CANARY}", Webhook, "https://hooks.example.com:8443/…"),
        (f"https://hooks.example.com?token={CANARY}", Webhook, "https://hooks.example.com/…"),
        (f"http://127.0.0.1:8080/{CANARY}", Webhook, "http://127.0.0.1:8080/…"),
        (f"http://[::1]:8080/{CANARY}", Webhook, "http://[::1]:8080/…"),
        (f"http://localhost/{CANARY}", Webhook, "http://localhost/…"),
        (f"slack://hooks.slack.com/services/T0/B0/{CANARY}", Slack, "slack://hooks.slack.com/…"),
        (f"https://hooks.slack.com/services/T0/B0/{CANARY}", Slack, "slack://hooks.slack.com/…"),
        (f"slack://chat.example.com:8443/hooks/{CANARY}", Slack, "slack://chat.example.com:8443/…"),
        (f"sns:{TOPIC}", Topic, f"sns:{TOPIC}"),
        (TOPIC, Topic, f"sns:{TOPIC}"),
        (f"{TOPIC}.fifo?credential=prod", Topic, f"sns:{TOPIC}.fifo?credential=prod"),
        ("mailto:a@example.com,b+c@example.com", Mail, "mailto:a@example.com,b+c@example.com"),
        (
            f"mailto:a@example.com?smtp=smtps://me:{CANARY}@mail.example.com",
            Mail,
            "mailto:a@example.com?smtp=smtps://me@mail.example.com:465",
        ),
        ("mailto:a@example.com?smtp=mail.example.com:25", Mail, "mailto:a@example.com?smtp=smtp://mail.example.com:25"),
    ],
)
def test_a_channel_is_read_and_shown_without_its_secrets(url: str, kind: type[Channel], shown: str) -> None:
    """It survives being stored as its URL, and hides that everywhere."""
    channel = parse_channel(url)

    assert type(channel) is kind
    assert channel.shown == shown
    assert parse_channel(channel.url.reveal_text()) == channel
    assert CANARY not in f"{channel!r} {channel} {channel.shown}"


@pytest.mark.parametrize(
    ("url", "message", "fix"),
    [
        ("", "not a channel", "slack://hooks.slack.com"),
        (CANARY, "not a channel", "mailto:"),
        (f"teams://{CANARY}", "not a channel", "https://HOST/PATH"),
        (f"http://hooks.example.com/{CANARY}", "readable on its way", "write https://"),
        (f"https://user:{CANARY}@hooks.example.com/", "a user name or a password", "leave them out"),
        (f"https://hooks.example.com/#{CANARY}", "fragment", "leave it out"),
        (f"https:/hooks.example.com/{CANARY}", "two slashes", "write https://HOST/PATH"),
        (f"https:///{CANARY}", "no valid host", "hooks.example.com"),
        (f"https://hooks.example.com:99999/{CANARY}", "no valid host", "HOST:PORT"),
        (f"https://[::g]/{CANARY}", "no valid host", "HOST:PORT"),
        (f"https://hooks.example.com/{CANARY} x", "white space", "percent-encode"),
        (f"https://hooks.example.com/{CANARY}\r\nHost: x", "white space", "percent-encode"),
        (f"https://hööks.example.com/{CANARY}", "white space or characters", "xn--"),
        (f"https://169.254.169.254/{CANARY}", "link-local", "address of the receiver"),
        (f"https://[fd00:ec2::254]/{CANARY}", "link-local", "address of the receiver"),
        (f"https://[::ffff:169.254.169.254]/{CANARY}", "link-local", "address of the receiver"),
        ("slack://hooks.slack.com", "no path", "Incoming Webhooks"),
        (f"sns:{CANARY}", "not the ARN of an SNS topic", "list-topics"),
        (f"arn:aws:sqs:eu-west-1:123456789012:{CANARY}", "not the ARN of an SNS topic", "list-topics"),
        (f"{TOPIC}?key={CANARY}", "unknown, empty or repeated", "credential=…"),
        (f"mailto:{CANARY}", "followed by addresses", "NAME@HOST"),
        (f"mailto:a@example.com,{CANARY}%0d%0aBcc:x@example.com", "followed by addresses", "NAME@HOST"),
        ("mailto:" + ",".join(f"a{n}@example.com" for n in range(21)), "20 addresses", "list of recipients"),
        (f"mailto:a@example.com?subject={CANARY}", "unknown, empty or repeated", "smtp=…"),
        (f"mailto:a@example.com?smtp=http://{CANARY}", "not the URL of a mail server", "smtps://"),
        (f"mailto:a@example.com?smtp=smtp://me:{CANARY}%zz@x", "not percent-encoded", "@ as %40"),
        (f"mailto:a@example.com?smtp=smtp://me:{CANARY}%0d%0aRSET@x", "not percent-encoded", "@ as %40"),
        (f"https://hooks.example.com/{CANARY * 200}", "at most 2,048 characters", ""),
    ],
)
def test_a_refused_channel_names_the_fix_and_repeats_no_part_of_itself(url: str, message: str, fix: str) -> None:
    """What was typed may be a secret in the wrong place."""
    with pytest.raises(InvalidInputError) as caught:
        parse_channel(url)

    assert message in caught.value.message
    assert fix in (caught.value.hint or "")
    assert CANARY not in f"{caught.value.message} {caught.value.hint}"


def test_a_topic_says_where_it_is_and_who_publishes() -> None:
    """The Region of the call is that of the topic."""
    topic = parse_channel(f"{TOPIC}?credential=prod")

    assert isinstance(topic, Topic)
    assert (topic.region, topic.account, topic.credential) == ("eu-west-1", "123456789012", "prod")


def test_a_mail_server_has_a_percent_encoded_login() -> None:
    """A password may have any character."""
    server = parse_mail_server("smtp://me%40example.com:p%C3%A4%3A%2F@mail.example.com")

    assert (server.host, server.port, server.implicit_tls) == ("mail.example.com", 587, False)
    assert server.user == "me@example.com"
    assert server.password is not None and server.password.reveal_text() == "pä:/"
    assert "pä" not in repr(server)


@pytest.mark.parametrize(
    "host",
    ["169.254.1.1", "fe80::1", "fe80::1%eth0", "100.100.100.200", "2002:a9fe:a9fe::", "64:ff9b::a9fe:a9fe"],
)
def test_addresses_of_metadata_are_known_in_all_their_forms(host: str) -> None:
    """Mapped into IPv6, and behind NAT64, too."""
    assert is_metadata_address(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "fd12::1", "192.168.1.1", "64:ff9b::102:304", "example.com", "127.0.0.1"])
def test_private_addresses_are_no_addresses_of_metadata(host: str) -> None:
    """Receivers often have them."""
    assert not is_metadata_address(host)


def test_loopback_is_this_machine_and_nothing_that_looks_like_it() -> None:
    """A name that begins with 127.0.0.1 may lead anywhere."""
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1"))
    assert not any(is_loopback(host) for host in ("127.0.0.1.example.com", "localhost.example.com", "10.0.0.1"))


def test_a_signature_is_the_one_of_the_specification() -> None:
    """The example of the Standard Webhooks specification."""
    secret = SecretValue("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signature_headers(
        secret,
        id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        at=datetime.fromtimestamp(1614265330, UTC),
        body=b'{"test": 2432232314}',
    )

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_new_secret_is_one_that_is_accepted() -> None:
    """And belongs to webhooks alone."""
    secret = new_signing_secret(bytes(range(32)))

    channel = parse_channel("https://hooks.example.com/x", signing_secret=secret)

    assert isinstance(channel, Webhook) and channel.signing_secret == secret
    with pytest.raises(InvalidInputError, match="has no signing secret"):
        parse_channel(TOPIC, signing_secret=secret)


@pytest.mark.parametrize("text", ["", CANARY, f"whsec_{CANARY}!", "whsec_c2hvcnQ="])
def test_a_secret_of_another_form_is_refused_without_being_repeated(text: str) -> None:
    """Too short, no base64, no prefix."""
    with pytest.raises(InvalidInputError) as caught:
        check_signing_secret(SecretValue(text))

    assert "openssl rand" in (caught.value.hint or "")
    assert CANARY not in f"{caught.value.message} {caught.value.hint}"
