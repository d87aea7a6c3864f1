"""
Publishes a message to a topic of Amazon SNS, as a credential of the store or as the identity of the daemon.

People who subscribe by mail get the text; all others (SQS, Lambda, HTTP) the document that webhooks carry. Attributes
let subscriptions filter. Needs sns:Publish on the topic, and for a topic with a key of its own kms:GenerateDataKey and
kms:Decrypt on the key (SNS Developer Guide, "Key management").
"""

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final

from phasesync.adapters.aws.client import AwsClient
from phasesync.adapters.aws.session import AwsClients
from phasesync.core.channels import Topic
from phasesync.core.credential import Credential, daemon_identity
from phasesync.core.notification_document import MAX_TEXT_CHARACTERS, cut, document_bytes
from phasesync.core.notification_message import Message
from phasesync.errors import (
    ChannelRejectedError,
    ChannelUnavailableError,
    DestinationUnavailableError,
    Disposition,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    PhasesyncError,
    ThrottledError,
)

MAX_SUBJECT_CHARACTERS: Final = 100
"""API reference of SNS, Publish, Subject: ASCII, beginning with a letter, a digit or punctuation, no line break."""
_MAX_SMS_CHARACTERS: Final = 140
_TOPICS: Final = {
    "NotFound": "the account has no such topic in this Region; those it has: aws sns list-topics --region {region}",
    "InvalidParameter": "what SNS has of the topic: aws sns get-topic-attributes --topic-arn {arn} --region {region}",
}
"""Code of a refusal -> a hint."""
_NOT_IN_IDS: Final = re.compile(r"[^!-~]")


def publish(topic: Topic, message: Message, *, clients: AwsClients, credential_of: Callable[[str], Credential]) -> None:
    """
    Publish a message. It is sent once: the SDK repeats nothing. Inside of `own_deadline`.

    Args:
        topic: where.
        message: the message.
        clients: shared clients.
        credential_of: returns a credential of the store by name (NotFoundError).

    Raises:
        ChannelUnavailableError: SNS cannot be reached, or may have published it: its answer was lost.
        ChannelRejectedError: SNS refuses it.
    """
    to = f"the topic {topic.arn}"
    problem: PhasesyncError
    try:
        credential = daemon_identity(topic.region) if topic.credential is None else credential_of(topic.credential)
        AwsClient(clients, credential, "sns", topic.region).call(
            "Publish", write=True, once=True, **_arguments(topic, message)
        )
        return
    except NotFoundError as error:
        problem = ChannelRejectedError(f"{to}: {error.message}", hint="name another credential in ?credential=")
    except PermissionDeniedError as error:
        problem = ChannelRejectedError(
            f"{to}: {error.message}",
            hint=f"allow it in the policy of {_who(topic)}: {statement(topic)}; a topic with a KMS key of its own also "
            "needs kms:GenerateDataKey and kms:Decrypt on the key",
            code=error.code,
            request_id=error.request_id,
        )
    except PhasesyncError as error:
        again = error.disposition is not Disposition.HALT
        cls: type[ChannelUnavailableError | ChannelRejectedError] = (
            ChannelUnavailableError if again else ChannelRejectedError
        )
        code = error.code or _CODES.get(type(error))
        hint = _TOPICS.get(error.code or "", "").format(arn=topic.arn, region=topic.region) or error.hint
        problem = cls(f"{to}: {error.message}", hint=hint, code=code, request_id=error.request_id)
        if isinstance(error, ThrottledError) and isinstance(problem, ChannelUnavailableError):
            problem.retry_after = error.retry_after
    raise problem


_CODES: Final[dict[type[PhasesyncError], str]] = {
    DestinationUnavailableError: "unreachable",
    OutcomeUnknownError: "no-answer",
}
"""Class -> what stands for the code that SNS did not give."""


def statement(topic: Topic) -> str:
    """Return the statement of a policy that lets an identity publish, as JSON on one line."""
    return json.dumps({"Effect": "Allow", "Action": "sns:Publish", "Resource": topic.arn})


def _who(topic: Topic) -> str:
    if topic.credential:
        return f"the credential {topic.credential}"
    return "the identity of the daemon (in a test from a shell: of that shell)"


def _arguments(topic: Topic, message: Message) -> dict[str, Any]:
    forms = {
        "default": document_bytes(message).decode("utf-8"),
        "email": cut(message.text, MAX_TEXT_CHARACTERS),
        "sms": cut(message.title, _MAX_SMS_CHARACTERS),
    }
    arguments: dict[str, Any] = {
        "TopicArn": topic.arn,
        "Subject": subject(message.title),
        "MessageStructure": "json",
        "Message": json.dumps(forms, ensure_ascii=False),
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": value}
            for name, value in (
                ("message_id", message.id),
                ("notification", message.notification),
                ("step", str(message.step)),
                ("condition", str(message.condition or message.step)),
            )
        },
    }
    if topic.arn.endswith(".fifo"):
        # SNS itself drops a second message of the same id within five minutes.
        arguments["MessageGroupId"] = _NOT_IN_IDS.sub("-", message.notification)[:128]
        arguments["MessageDeduplicationId"] = _NOT_IN_IDS.sub("-", message.id)[:128]
    return arguments


def subject(title: str) -> str:
    """Return a title as SNS takes it for the subject of mail."""
    plain = unicodedata.normalize("NFKD", " ".join(title.split())).encode("ascii", "ignore").decode()
    plain = "".join(character for character in plain if " " <= character <= "~").lstrip() or "phasesync"
    return plain if len(plain) <= MAX_SUBJECT_CHARACTERS else f"{plain[: MAX_SUBJECT_CHARACTERS - 3]}..."
