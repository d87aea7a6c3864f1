"""
Sends a message by mail, to all recipients in one transaction of SMTP.

The connection is encrypted before anything is said: STARTTLS, or TLS from the start; only a server on this machine may
do without. The Message-ID is made from the id of the message, so that mail programs and servers can drop a second one.
No text of the server is shown: it may repeat anything.
"""

import email.policy
import io
import os
import re
import smtplib
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from socket import socket
from typing import Any, Final

from phasesync.adapters.aws.bounded_http import BoundedReader
from phasesync.adapters.channels.connection import (
    MAX_ANSWER_BYTES,
    code_of,
    is_refused,
    left_s,
    open_connection,
    reason_of,
    trust,
)
from phasesync.core.channels import Mail, MailServer, is_loopback, is_mail_address
from phasesync.core.model import SecretValue
from phasesync.core.notification_document import cut
from phasesync.core.notification_message import Message
from phasesync.errors import ChannelError, ChannelRejectedError, ChannelUnavailableError
from phasesync.host_files import UnusableFileError, read_regular_file

_MAX_PASSWORD_BYTES: Final = 4_096
_MAX_SUBJECT_CHARACTERS: Final = 200
_NOT_IN_IDS: Final = re.compile(r"[^A-Za-z0-9._-]")
_NO_SERVER_HINT: Final = (
    "set notifications.smtp_url (PHASESYNC_NOTIFICATIONS__SMTP_URL), or write mailto:ADDRESS?smtp=smtp://USER@HOST:587"
)


@dataclass(frozen=True, kw_only=True)
class MailSettings:
    """
    What the settings say about mail.

    Attributes:
        server: of the channels that name none of their own; None if there is none.
        password: of its user; `password_file` has precedence.
        sender: address that mail comes from; None: the user of the server if it is an address, else phasesync@ and the
            host.
    """

    server: MailServer | None = None
    password: SecretValue | None = None
    password_file: Path | None = None
    sender: str | None = None


def send_by_mail(channel: Mail, message: Message, settings: MailSettings) -> str | None:
    """
    Send a message; return which part of the recipients was refused, None if all were accepted. Inside `own_deadline`.

    Raises:
        ChannelUnavailableError: the server cannot be reached or does not take it now.
        ChannelRejectedError: the server refuses it or all recipients, or there is no server.
    """
    server = channel.server or settings.server
    if server is None:
        raise ChannelRejectedError("there is no server for mail", hint=_NO_SERVER_HINT)
    password = server.password
    if password is None and server == settings.server:
        password = _password(settings)
    sender = settings.sender or _sender(server)
    to = f"the mail server {server.shown}"
    problem: ChannelError
    try:
        with _Session(server) as session:
            session.log_in(password)
            return session.deliver(sender, channel.recipients, as_mail(message, sender, channel.recipients))
    except _SmtpProblem as error:
        problem = error.as_channel_error(to)
    except smtplib.SMTPResponseException as error:
        problem = _SmtpProblem("refuses the message", error.smtp_code).as_channel_error(to)
    except Exception as error:  # noqa: BLE001 -- smtplib, ssl and sockets share no base class; texts may hold anything
        problem = _problem(error, to=to)
    raise problem


def as_mail(message: Message, sender: str, recipients: Sequence[str]) -> bytes:
    """Return a message as mail. Line breaks in its title cannot add a header, since there are none."""
    mail = EmailMessage(policy=email.policy.SMTP)
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail["Subject"] = _one_line(message.title)
    mail["Date"] = format_datetime(message.at)
    mail["Message-ID"] = f"<{_NOT_IN_IDS.sub('-', message.id)}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers.
    mail["X-Phasesync-Notification"] = _one_line(message.notification)
    mail["X-Phasesync-Condition"] = str(message.condition or message.step)
    mail["X-Phasesync-Step"] = str(message.step)
    mail.set_content(f"{message.text}\n", cte="quoted-printable")
    return mail.as_bytes()


def _one_line(text: str) -> str:
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return cut(line, _MAX_SUBJECT_CHARACTERS)


def _sender(server: MailServer) -> str:
    if server.user is not None and is_mail_address(server.user):
        return server.user
    return f"phasesync@{_host_name()}"


def _host_name() -> str:
    """Return the name of this host, without asking DNS for more of it."""
    name = os.uname().nodename
    return name if is_mail_address(f"a@{name}") else "localhost"


def _password(settings: MailSettings) -> SecretValue | None:
    """Return the password of the settings' mail server."""
    if settings.password_file is None:
        return settings.password
    try:
        data, _ = read_regular_file(settings.password_file, most_bytes=_MAX_PASSWORD_BYTES)
        return SecretValue(data.decode("utf-8").removesuffix("\n").removesuffix("\r"))
    except UnusableFileError as error:
        reason = error.reason
    except UnicodeDecodeError:
        reason = "it is not text"
    raise ChannelRejectedError(
        f"the password of the mail server cannot be read from {settings.password_file}: {reason}",
        hint="correct notifications.smtp_password_file",
    )


# --- one session of SMTP


class _SmtpProblem(Exception):
    """The server did not do a step. `code`: of its answer; None if it gave none."""

    def __init__(self, step: str, code: int | None = None, *, fix: str | None = None, final: bool = False) -> None:
        self.step = step
        self.code = code
        self.fix = fix
        self.final = final or (code is not None and code >= 500)

    def as_channel_error(self, to: str) -> ChannelError:
        """Return the error to raise."""
        if self.code is not None and self.code not in range(200, 600):
            return ChannelUnavailableError(f"{to} gives no answer of SMTP", hint="check its port", code="bad-answer")
        message = f"{to} {self.step}" + (f" (SMTP {self.code})" if self.code else "")
        cls = ChannelRejectedError if self.final else ChannelUnavailableError
        code = None if self.final else "bad-answer"
        return cls(message, hint=self.fix, code=code if self.code is None else str(self.code))


class _Smtp(smtplib.SMTP):
    """The client of the standard library, which reads and sends within the deadline of this thread's call."""

    def __init__(self, server: MailServer, context: ssl.SSLContext) -> None:
        # Without a name of our own it would ask DNS for one, without a time limit.
        super().__init__(local_hostname=_host_name())
        self._server = server
        self._context = context
        self._host = server.host  # The name that STARTTLS verifies.

    def _get_socket(self, host: str, port: int, timeout: float) -> socket:
        sock = open_connection(host, port)
        if not self._server.implicit_tls:
            return sock
        try:
            return self._context.wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise

    def getreply(self) -> tuple[int, bytes]:
        """Read one answer."""
        if self.file is None and self.sock is not None:
            self.file: Any = io.BufferedReader(BoundedReader(self.sock, MAX_ANSWER_BYTES))
        try:
            return super().getreply()
        except smtplib.SMTPServerDisconnected as error:
            if error.__context__ is not None:
                raise  # Something else was the cause.
            raise ConnectionResetError from None
        except smtplib.SMTPResponseException:  # It is made here, not by the server.
            problem = _SmtpProblem("answers with a line that is too long")
        raise problem

    def send(self, s: Any) -> None:
        """Send bytes; what the server does not take in time is an error."""
        if self.sock is not None:
            self.sock.settimeout(left_s())
        super().send(s)


class _Session:
    """One connection that is encrypted, or leads to this machine."""

    def __init__(self, server: MailServer) -> None:
        self._server = server
        self._context = trust()
        self._smtp = _Smtp(server, self._context)

    def __enter__(self) -> "_Session":
        try:
            code, _ = self._smtp.connect(self._server.host, self._server.port)
            self._expect(code, "takes no connection now")
            self._expect(self._smtp.ehlo()[0], "refuses the greeting")
            self._encrypt()
        except BaseException:
            self._smtp.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # What was accepted is delivered, whatever the server says to the farewell.
        with suppress(Exception):
            self._smtp.docmd("QUIT")
        self._smtp.close()

    def log_in(self, password: SecretValue | None) -> None:
        """Sign in if the server has a user."""
        if self._server.user is None:
            return
        fix = "correct the user in the URL of the mail server, and its password (notifications.smtp_password_file)"
        if password is None:
            raise _SmtpProblem("has a user, and no password is set", fix=fix, final=True)
        try:
            self._smtp.login(self._server.user, password.reveal_text())
        except smtplib.SMTPNotSupportedError:
            problem = _SmtpProblem("takes no sign-in", fix="leave the user out of its URL", final=True)
        except smtplib.SMTPAuthenticationError as error:
            problem = _SmtpProblem("refuses user or password", error.smtp_code, fix=fix)
        except smtplib.SMTPResponseException as error:
            problem = _SmtpProblem("refuses the sign-in", error.smtp_code, fix=fix)
        except smtplib.SMTPException:
            problem = _SmtpProblem("offers no way to sign in that is known", fix=fix, final=True)
        except UnicodeEncodeError:
            problem = _SmtpProblem("cannot be told a user or password beyond ASCII", fix=fix, final=True)
        else:
            return
        raise problem

    def deliver(self, sender: str, recipients: Sequence[str], mail: bytes) -> str | None:
        """Hand a mail over; return what part of the recipients was refused."""
        fix = "set notifications.mail_from to an address that the server takes"
        self._expect(self._smtp.mail(sender)[0], "refuses the sender", fix=fix)
        refused = [code for address in recipients if (code := self._smtp.rcpt(address)[0]) not in (250, 251)]
        if len(refused) == len(recipients):
            # One that may be taken later is worth another try.
            raise _SmtpProblem("refuses the recipients", min(refused), fix="correct the addresses after mailto:")
        self._expect(self._smtp.data(mail)[0], "refuses the message")
        if not refused:
            return None
        return (
            f"{len(refused)} of {len(recipients)} addresses were refused (SMTP {refused[0]}); the others were accepted"
        )

    def _encrypt(self) -> None:
        if self._server.implicit_tls:
            return
        if not self._smtp.has_extn("starttls"):
            if is_loopback(self._server.host):
                return
            raise _SmtpProblem(
                "offers no encryption (STARTTLS)",
                fix="write smtps:// and its port, such as 465; mail is never sent unencrypted",
                final=True,
            )
        self._expect(self._smtp.starttls(context=self._context)[0], "refuses STARTTLS")
        self._expect(self._smtp.ehlo()[0], "refuses the greeting")

    @staticmethod
    def _expect(code: int, step: str, *, fix: str | None = None) -> None:
        if not 200 <= code < 300:
            raise _SmtpProblem(step, code, fix=fix)


def _problem(error: Exception, *, to: str) -> ChannelError:
    if is_refused(error):
        return ChannelRejectedError(
            f"{to}: {reason_of(error)}", hint="name the address of the server", code=code_of(error)
        )
    reason = reason_of(error)
    hint = "check host and port of the mail server, and the network"
    if "certificate" in reason or "TLS" in reason:
        hint = (
            "smtps:// is for servers that begin with TLS, smtp:// for those with STARTTLS; SSL_CERT_FILE names a file "
            "with the authorities that this host trusts"
        )
    return ChannelUnavailableError(f"{to}: {reason}", hint=hint, code=code_of(error))
