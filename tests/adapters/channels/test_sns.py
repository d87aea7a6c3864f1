"""Topics of SNS, as moto has them: who publishes, what subscribers get, and what a refusal says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import pytest

from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.channels import ChannelSenders
from phasesync.adapters.channels.mail import MailSettings
from phasesync.adapters.channels.sns import subject
from phasesync.core.channels import parse_channel
from phasesync.core.credential import Credential
from phasesync.core.notification_message import Message
from phasesync.errors import ChannelRejectedError, ChannelUnavailableError
from tests.contracts.test_channels import PUBLISHED, sns_error
from tests.support.aws_builders import INSTANCE, HandClock, access_key_credential, no_sources
from tests.support.messages import MESSAGE, NOW
from tests.support.receivers import HttpReceiver

ARN = "arn:aws:sns:eu-west-1:123456789012:alerts"


class Topics:
    """Publishes to topics."""

    def __init__(self, environ: pytest.MonkeyPatch) -> None:
        self._environ = environ
        self.clients = AwsClients(source_of=no_sources, clock=HandClock(NOW), instance_id=INSTANCE)

    def at(self, url: str) -> None:
        """Have SNS at a URL."""
        self._environ.setenv("AWS_ENDPOINT_URL_SNS", url)

    def publish(self, channel: str, message: Message = MESSAGE) -> None:
        """Publish a message."""

        def credential_of(name: str) -> Credential:
            return access_key_credential(name=name, access_key_id="AKIASTORESTORESTORE1")

        senders = ChannelSenders(
            clock=HandClock(NOW), clients=lambda: self.clients, credential_of=credential_of, mail=MailSettings
        )
        senders.send(parse_channel(channel), message)


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> Iterator[Topics]:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAMBIENTAMBIENT01")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    made = Topics(monkeypatch)
    yield made
    made.clients.close()


@pytest.fixture
def endpoint(topics: Topics) -> Iterator[HttpReceiver]:
    """An endpoint that keeps the calls."""
    with HttpReceiver() as made:
        made.status, made.body, made.headers = 200, PUBLISHED.encode(), {"content-type": "text/xml"}
        topics.at(f"http://127.0.0.1:{made.port}")
        yield made


def call_at(endpoint: HttpReceiver) -> dict[str, str]:
    """Return the arguments of the one call."""
    (request,) = endpoint.requests
    return dict(parse_qsl(request.body.decode()))


def test_subscribers_get_the_document_and_the_attributes(topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a queue that filters by condition; the other message does not pass the filter."""
    import boto3.session
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        session: Any = boto3.session.Session(region_name="eu-west-1")
        sns, sqs = (session.client(service, endpoint_url=url) for service in ("sns", "sqs"))
        arn = sns.create_topic(Name="alerts")["TopicArn"]
        queue = sqs.create_queue(QueueName="q")["QueueUrl"]
        queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sns.subscribe(
            TopicArn=arn,
            Protocol="sqs",
            Endpoint=queue_arn,
            Attributes={"FilterPolicy": '{"condition": ["held"]}'},
        )
        topics.at(url)
        topics.publish(arn)
        topics.publish(arn, replace(MESSAGE, condition=None, id="0199-message-2"))
        received = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    finally:
        server.stop()

    envelopes = [json.loads(message["Body"]) for message in received]
    assert [envelope["MessageAttributes"]["message_id"]["Value"] for envelope in envelopes] == [MESSAGE.id]
    assert envelopes[0]["Subject"] == MESSAGE.title
    assert MESSAGE.id in envelopes[0]["Message"]


def test_the_forms_of_a_message_are_those_of_the_protocols(topics: Topics, endpoint: HttpReceiver) -> None:
    """People get the text, programs the document."""
    topics.publish(ARN)
    call = call_at(endpoint)
    forms = json.loads(call["Message"])

    assert call["MessageStructure"] == "json"
    assert forms["email"] == MESSAGE.text
    assert forms["sms"] == MESSAGE.title
    assert json.loads(forms["default"])["data"]["id"] == MESSAGE.id


@pytest.mark.parametrize(
    ("channel", "key"), [(ARN, "AKIAAMBIENTAMBIENT01"), (f"sns:{ARN}?credential=prod", "AKIASTORESTORESTORE1")]
)
def test_the_daemon_publishes_unless_the_channel_names_a_credential(
    topics: Topics, endpoint: HttpReceiver, channel: str, key: str
) -> None:
    """In the Region of the topic."""
    topics.publish(channel)

    assert f"{key}/" in endpoint.requests[0].headers["authorization"]
    assert "/eu-west-1/sns/" in endpoint.requests[0].headers["authorization"]


def test_a_topic_in_fifo_mode_drops_a_message_of_the_same_id(topics: Topics, endpoint: HttpReceiver) -> None:
    """By its deduplication id."""
    topics.publish(f"{ARN}.fifo")
    call = call_at(endpoint)

    assert (call["MessageDeduplicationId"], call["MessageGroupId"]) == (MESSAGE.id, "on-call")


def test_a_denied_call_names_the_line_of_the_policy(topics: Topics, endpoint: HttpReceiver) -> None:
    """Ready to be copied."""
    endpoint.status, endpoint.body = 403, sns_error("AuthorizationError").encode()
    with pytest.raises(ChannelRejectedError) as caught:
        topics.publish(ARN)

    hint = str(caught.value.hint)
    assert f'{{"Effect": "Allow", "Action": "sns:Publish", "Resource": "{ARN}"}}' in hint
    assert "the identity of the daemon" in hint
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (404, "NotFound", "aws sns list-topics --region eu-west-1"),
        (400, "InvalidParameter", f"aws sns get-topic-attributes --topic-arn {ARN} --region eu-west-1"),
    ],
)
def test_a_refused_topic_names_the_command_that_shows_more(
    topics: Topics, endpoint: HttpReceiver, status: int, code: str, hint: str
) -> None:
    """The text of SNS, which may repeat the message, is not in the error."""
    endpoint.status, endpoint.body = status, sns_error(code).encode()
    with pytest.raises(ChannelRejectedError) as caught:
        topics.publish(ARN)

    assert hint in str(caught.value.hint)
    assert caught.value.message == f"the topic {ARN}: AWS rejected sns:Publish ({code})"


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (404, "NotFound", ChannelRejectedError),
        (403, "InvalidClientTokenId", ChannelRejectedError),
        (400, "InvalidParameter", ChannelRejectedError),
        (400, "KMSThrottling", ChannelUnavailableError),
        (429, "Throttled", ChannelUnavailableError),
        (500, "InternalError", ChannelUnavailableError),
    ],
)
def test_a_failure_is_final_or_not_by_its_code(
    topics: Topics, endpoint: HttpReceiver, status: int, code: str, error: type[Exception]
) -> None:
    """And the call is made once: a repeated one would publish twice."""
    endpoint.status, endpoint.body = status, sns_error(code).encode()
    with pytest.raises(error):
        topics.publish(ARN)

    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("shop is held", "shop is held"),
        ("  läuft\r\nwieder  ", "lauft wieder"),
        ("日本", "phasesync"),
        ("x" * 101, "x" * 97 + "..."),
    ],
)
def test_a_subject_is_one_that_sns_takes(title: str, expected: str) -> None:
    """ASCII, one line, 100 characters at most."""
    assert subject(title) == expected
