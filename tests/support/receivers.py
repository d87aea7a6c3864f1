"""Real servers on loopback that messages are sent to: over HTTP, over SMTP, and such that behave badly."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.raw_http import TcpServer

# --- HTTP


@dataclass
class Request:
    """One request that arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class HttpReceiver:
    """Keeps what is posted to it, and answers as it is told."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        """`context`: it speaks TLS."""
        self.requests: list[Request] = []
        self.status = 204
        self.headers: dict[str, str] = {}
        self.body = b""
        self.answers = threading.Event()
        """Cleared: it takes requests and does not answer them."""
        self.answers.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append(Request(self.path, headers, body))
                receiver.answers.wait(timeout=60)
                self.send_response_only(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(receiver.body)))
                self.end_headers()
                self.wfile.write(receiver.body)

            def do_CONNECT(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append(Request(self.path, headers, b""))
                self.send_error(502)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Print nothing about a connection that the client has ended."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> HttpReceiver:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


# --- SMTP


@dataclass
class ReceivedMail:
    """One mail that was accepted."""

    sender: str
    recipients: list[str]
    encrypted: bool
    login: str | None
    data: bytes

    @property
    def message(self) -> EmailMessage:
        """The mail, parsed."""
        return message_from_bytes(self.data, policy=policy.default)


@dataclass
class SmtpServer:
    """
    A mail server with what a test needs: STARTTLS, a sign-in, refusals.

    Attributes:
        context: of TLS; None: it offers none.
        implicit_tls: it begins with TLS.
        login: `user` and password that it asks for; None: it offers no sign-in.
        answers: command (`RCPT a@x`, `MAIL`, `DATA`, `.`, `greeting`) -> its answer in place of the usual one.
        drops_after_data: it takes the mail and closes the connection without an answer.
    """

    context: ssl.SSLContext | None = None
    implicit_tls: bool = False
    login: tuple[str, str] | None = None
    answers: dict[str, str] = field(default_factory=dict)
    drops_after_data: bool = False
    mails: list[ReceivedMail] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def __enter__(self) -> SmtpServer:
        self._tcp = TcpServer(self._serve)
        self._tcp.__enter__()
        self.port = self._tcp.port
        return self

    def __exit__(self, *_: object) -> None:
        self._tcp.__exit__()

    def _serve(self, connection: socket.socket) -> None:
        if self.implicit_tls:
            assert self.context is not None
            connection = self.context.wrap_socket(connection, server_side=True)
        self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        encrypted, login, sender, recipients = self.implicit_tls, None, "", list[str]()
        lines = connection.makefile("rb")

        def say(text: str) -> None:
            connection.sendall(f"{text}\r\n".encode())

        say(self.answers.get("greeting", "220 mail.example.com"))
        while line := lines.readline():
            text = line.decode().strip()
            self.commands.append(text)
            verb, _, argument = text.partition(" ")
            address = argument.partition("<")[2].partition(">")[0]
            told = self.answers.get(f"{verb.upper()} {address}") or self.answers.get(verb.upper())
            if told is not None:
                say(told)
            elif verb.upper() == "EHLO":
                offers = ["mail.example.com", *(["STARTTLS"] if self.context and not encrypted else [])]
                offers += ["AUTH PLAIN"] if self.login else []
                say("\r\n".join([*(f"250-{offer}" for offer in offers), "250 OK"]))
            elif verb.upper() == "STARTTLS" and self.context:
                say("220 go on")
                lines.close()
                connection = self.context.wrap_socket(connection, server_side=True)
                lines, encrypted = connection.makefile("rb"), True
            elif verb.upper() == "AUTH" and self.login:
                _, user, password = base64.b64decode(argument.split()[1]).decode().split("\0")
                login = user if (user, password) == self.login else None
                say("235 welcome" if login else f"535 5.7.8 wrong: {password}")
            elif verb.upper() == "MAIL":
                sender, recipients = address, []
                say("250 OK")
            elif verb.upper() == "RCPT":
                recipients.append(address)
                say("250 OK")
            elif verb.upper() == "DATA":
                say("354 go on")
                data = b""
                while (part := lines.readline()) not in (b".\r\n", b""):
                    data += part.removeprefix(b".")
                if not self.answers.get("."):
                    self.mails.append(ReceivedMail(sender, recipients, encrypted, login, data))
                if self.drops_after_data:
                    return
                say(self.answers.get(".", "250 queued"))
            elif verb.upper() == "QUIT":
                say("221 bye")
                break
            else:
                say("502 not implemented")
        lines.close()
        connection.close()


# --- TLS


@dataclass(frozen=True)
class Certificates:
    """A server's context of TLS, and the file with the authority that signed its certificate."""

    context: ssl.SSLContext
    authority: Path


def make_certificates(folder: Path, name: str = "localhost") -> Certificates:
    """Make an authority and a certificate for a name that it has signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    span = (now - timedelta(days=1), now + timedelta(days=1))
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
    root = (
        x509.CertificateBuilder(named("authority"), named("authority"), root_key.public_key(), 1, *span)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                key_cert_sign=True,
                crl_sign=True,
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(identifier, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    certificate = (
        x509.CertificateBuilder(named("authority"), named(name), key.public_key(), 2, *span)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(root_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    chain, authority = folder / "server.pem", folder / "authority.pem"
    authority.write_bytes(root.public_bytes(pem))
    chain.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return Certificates(context, authority)
