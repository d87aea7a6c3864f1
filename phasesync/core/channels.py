"""
Channels: where a notification goes, parsed from the URL that an operator types. Pure.

    slack://hooks.slack.com/services/…      an incoming webhook of Slack, or of a server that speaks the same
    https://host/path                       any receiver; http:// only on this machine
    sns:arn:aws:sns:REGION:ACCOUNT:TOPIC    a topic of Amazon SNS; ?credential=NAME: as this credential of the store
    mailto:a@x,b@y                          mail; ?smtp=smtps://USER:PASSWORD@HOST:PORT: by this server

Paths, queries and passwords in these URLs are secrets: whoever has them can send. So no message repeats any part of a
refused URL, and a channel shows itself without them.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, NoReturn

from phasesync.core.arns import check_topic_arn
from phasesync.core.model import SecretValue
from phasesync.core.names import check_name
from phasesync.core.webhook_signature import check_signing_secret
from phasesync.errors import InvalidInputError

MAX_URL_CHARACTERS: Final = 2_048
MAX_RECIPIENTS: Final = 20

FORMS: Final = (
    "slack://hooks.slack.com/services/…, https://HOST/PATH, sns:arn:aws:sns:REGION:ACCOUNT:TOPIC, or "
    "mailto:NAME@HOST,NAME@HOST"
)
"""How a channel is written, for messages and help."""


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """
    A receiver of signed JSON over HTTP.

    Attributes:
        url: where the messages go; `parse_channel` reads it again.
        shown: the same without what may be a secret.
        signing_secret: signs the messages (`whsec_…`); None: they are not signed.
    """

    kind: ClassVar[str] = "webhook"
    url: SecretValue
    shown: str
    signing_secret: SecretValue | None = None


@dataclass(frozen=True, kw_only=True)
class Slack:
    """An incoming webhook of Slack. `url` begins with slack://, and `http_url` is the one that is called."""

    kind: ClassVar[str] = "slack"
    url: SecretValue
    shown: str
    http_url: SecretValue


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A topic of Amazon SNS. `credential`: name of the credential that publishes; None: the identity of the daemon."""

    kind: ClassVar[str] = "sns"
    url: SecretValue
    shown: str
    arn: str
    credential: str | None = None

    @property
    def region(self) -> str:
        """The Region that the topic is in."""
        return self.arn.split(":")[3]

    @property
    def account(self) -> str:
        """The 12-digit account that owns the topic."""
        return self.arn.split(":")[4]


@dataclass(frozen=True, kw_only=True)
class MailServer:
    """
    A server that takes mail.

    Attributes:
        implicit_tls: the connection begins with TLS (smtps://). Otherwise STARTTLS follows the greeting; without it
            mail goes to servers on this machine only.
        user: None if the server asks for none.
        shown: its URL without the password.
    """

    host: str
    port: int
    implicit_tls: bool
    user: str | None
    password: SecretValue | None = field(repr=False)
    shown: str


@dataclass(frozen=True, kw_only=True)
class Mail:
    """Addresses of mail. `server`: None: the one of the settings (notifications.smtp_url)."""

    kind: ClassVar[str] = "mail"
    url: SecretValue
    shown: str
    recipients: tuple[str, ...]
    server: MailServer | None = None


Channel = Webhook | Slack | Topic | Mail

_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})))(?::([0-9]{1,5}))?")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_ADDRESS: Final = re.compile(
    r"[A-Za-z0-9!#$'*+/=^_`{|}~-]+(?:\.[A-Za-z0-9!#$'*+/=^_`{|}~-]+)*"
    r"@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
"""RFC 5322, addr-spec, without quoted names and without the characters that mean something in a URL."""
_PERCENT: Final = re.compile(rb"%([0-9A-Fa-f]{2})")

_SLACK_HOSTS: Final = ("hooks.slack.com", "hooks.slack-gov.com")


def parse_channel(url: str, *, signing_secret: SecretValue | None = None) -> Channel:
    """
    Read where a notification goes.

    Args:
        url: as an operator typed it, or as a channel's `url` says.
        signing_secret: of a webhook; other kinds have none.

    Raises:
        InvalidInputError: no part of the URL is repeated.
    """
    url = url.strip()
    if len(url) > MAX_URL_CHARACTERS:
        raise InvalidInputError(f"a channel has at most {MAX_URL_CHARACTERS:,} characters, this one has {len(url):,}")
    if not all("!" <= character <= "~" for character in url):
        raise InvalidInputError(
            "the channel has white space or characters that a URL does not have",
            hint="percent-encode them; write a name of a host with such characters in its ASCII form (xn--…)",
        )
    channel = _parse(url, signing_secret)
    if signing_secret is not None and not isinstance(channel, Webhook):
        raise InvalidInputError(
            f"a channel of the kind {channel.kind} has no signing secret", hint="leave the signing secret out"
        )
    return channel


def _parse(url: str, signing_secret: SecretValue | None) -> Channel:
    match = _SCHEME.match(url)
    scheme, rest = ("", url) if match is None else (match[1].lower(), url[match.end() :])
    if scheme in ("https", "http"):
        return _parse_webhook(scheme, rest, signing_secret)
    if scheme == "slack":
        return _parse_slack(rest)
    if scheme == "arn":
        return _parse_topic(url)
    if scheme == "sns":
        return _parse_topic(rest)
    if scheme == "mailto":
        return _parse_mail(rest)
    raise InvalidInputError("that is not a channel of notifications", hint=f"write {FORMS}")


# --- HTTP


def _parse_webhook(scheme: str, rest: str, signing_secret: SecretValue | None) -> Channel:
    host, port, path = _split(f"{scheme}:", rest)
    if host in _SLACK_HOSTS:
        return _parse_slack(rest)
    if scheme == "http" and not is_loopback(host):
        raise InvalidInputError(
            "a webhook over http:// would be readable on its way",
            hint="write https://; http:// is for addresses of this machine",
        )
    if signing_secret is not None:
        check_signing_secret(signing_secret)
    place = _place(host, port)
    return Webhook(
        url=SecretValue(f"{scheme}://{place}{path}"),
        shown=f"{scheme}://{place}{_masked(path)}",
        signing_secret=signing_secret,
    )


def _parse_slack(rest: str) -> Slack:
    host, port, path = _split("slack:", rest)
    if len(path) < 2:
        raise InvalidInputError(
            "the Slack channel has no path",
            hint="copy the whole webhook URL from Slack (Incoming Webhooks), and write slack:// in place of https://",
        )
    place = _place(host, port)
    scheme = "http" if is_loopback(host) else "https"
    return Slack(
        url=SecretValue(f"slack://{place}{path}"),
        shown=f"slack://{place}{_masked(path)}",
        http_url=SecretValue(f"{scheme}://{place}{path}"),
    )


def _split(scheme: str, rest: str) -> tuple[str, int | None, str]:
    """Return host, port and the path with its query of what follows a scheme. InvalidInputError."""
    if not rest.startswith("//"):
        raise InvalidInputError(f"two slashes have to follow {scheme}", hint=f"write {scheme}//HOST/PATH")
    authority, path = _cut(rest[2:], "/?#")
    if "@" in authority:
        raise InvalidInputError(
            "the URL of the channel has a user name or a password",
            hint="leave them out: a webhook is signed, and its path is kept as a secret",
        )
    if "#" in path:
        raise InvalidInputError("the URL of the channel has a fragment (#…)", hint="leave it out: it is never sent")
    host, port = _host_and_port(authority)
    return host, port, path if path.startswith("/") else f"/{path}"


def _host_and_port(text: str) -> tuple[str, int | None]:
    match = _HOST.fullmatch(text)
    if match is None or int(match[3] or 1) not in range(1, 65_536):
        raise InvalidInputError(
            "the channel has no valid host", hint="write HOST or HOST:PORT, such as hooks.example.com"
        )
    host = (match[1] or match[2]).lower()
    if match[1] is not None and _ip(host) is None:
        raise InvalidInputError("the channel has no valid IPv6 address in its brackets")
    if is_metadata_address(host):
        raise InvalidInputError(
            "that address gives out the identity of this host or is link-local; no message goes there",
            hint="name the address of the receiver",
        )
    return host, int(match[3]) if match[3] else None


def _place(host: str, port: int | None) -> str:
    return (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")


def _masked(path: str) -> str:
    return "" if path == "/" else "/…"


def _cut(text: str, ends: str) -> tuple[str, str]:
    """Split a text before the first of some characters."""
    place = next((place for place, character in enumerate(text) if character in ends), len(text))
    return text[:place], text[place:]


# --- addresses

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # Link-local: metadata of EC2, Google and Azure, credentials of ECS tasks and EKS pods.
        "fe80::/10",
        "fd00:ec2::/32",  # The same of AWS over IPv6.
        "fd20:ce::254/128",  # Google's over IPv6.
        "100.100.100.200/32",  # Alibaba's.
        "168.63.129.16/32",  # The host of a virtual machine of Azure.
    )
)
"""Where hosts of clouds ask for their identity. A request there, made by a daemon, answers with credentials or changes
settings; no receiver of messages has such an address."""


def is_metadata_address(host: str) -> bool:
    """Return whether a host is an address at which clouds give out identities, or link-local. Resolves no name."""
    address = _ip(host)
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or _behind_nat64(address) or address
    return address is not None and any(address in network for network in _METADATA)


_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
"""Networks with IPv6 only reach those with IPv4 here (RFC 6052), such as by the NAT gateways of AWS."""


def _behind_nat64(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(address.packed[-4:]) if address in _NAT64 else None


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    address = _ip(host)
    return host == "localhost" if address is None else address.is_loopback


def _ip(host: str) -> _Ip | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


# --- SNS


def _parse_topic(text: str) -> Topic:
    arn, _, query = text.partition("?")
    arn = check_topic_arn(arn)
    credential = None
    for name, value in _options(query, ("credential",)):
        credential = check_name(value, name)
    suffix = f"?credential={credential}" if credential else ""
    return Topic(url=SecretValue(f"sns:{arn}{suffix}"), shown=f"sns:{arn}{suffix}", arn=arn, credential=credential)


# --- mail


def _parse_mail(text: str) -> Mail:
    addresses, _, query = text.partition("?")
    recipients = tuple(dict.fromkeys(filter(None, addresses.split(","))))
    if not recipients or not all(is_mail_address(address) for address in recipients):
        raise InvalidInputError(
            "mailto: has to be followed by addresses",
            hint="write mailto:NAME@HOST, several with commas between them and without white space",
        )
    if len(recipients) > MAX_RECIPIENTS:
        raise InvalidInputError(
            f"mail goes to {MAX_RECIPIENTS} addresses at most, these are {len(recipients)}",
            hint="make a list of recipients at the mail server, and write its address",
        )
    server, given = None, ""
    for _, value in _options(query, ("smtp",)):
        server, given = parse_mail_server(value), value
    names = ",".join(recipients)
    return Mail(
        url=SecretValue(f"mailto:{names}" + (f"?smtp={given}" if given else "")),
        shown=f"mailto:{names}" + (f"?smtp={server.shown}" if server else ""),
        recipients=recipients,
        server=server,
    )


def is_mail_address(text: str) -> bool:
    """Return whether a text is one plain mail address, which can neither add a header nor another recipient."""
    return len(text) <= 254 and text.isascii() and _ADDRESS.fullmatch(text) is not None


def parse_mail_server(url: str) -> MailServer:
    """
    Read `smtp://[USER[:PASSWORD]@]HOST[:PORT]`, `smtps://…`, or `HOST[:PORT]`, which means smtp://.

    Without a port it is 587 for smtp, and 465 for smtps. InvalidInputError; no part of the URL is repeated.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "smtp", url
    authority, path = _cut(rest, "/?#")
    if scheme not in ("smtp", "smtps") or path not in ("", "/"):
        raise InvalidInputError(
            "that is not the URL of a mail server", hint="write smtp://USER@HOST:587 or smtps://USER@HOST:465"
        )
    login, at, place = authority.rpartition("@")
    host, port = _host_and_port(place)
    user, colon, password = login.partition(":")
    if at and not user:
        raise InvalidInputError("the URL of the mail server has no user before its @")
    if not all("!" <= character <= "~" for character in url):
        _refuse_login()
    implicit_tls = scheme == "smtps"
    port = port or (465 if implicit_tls else 587)
    return MailServer(
        host=host,
        port=port,
        implicit_tls=implicit_tls,
        user=_decoded(user) if at else None,
        password=SecretValue(_decoded(password)) if colon else None,
        shown=f"{scheme}://{f'{user}@' if at else ''}{_place(host, port)}",
    )


def _decoded(text: str) -> str:
    """Return a text with its percent-encoded bytes decoded (RFC 3986). InvalidInputError."""
    data = text.encode("ascii")
    if data.count(b"%") != len(_PERCENT.findall(data)):
        _refuse_login()
    try:
        decoded = _PERCENT.sub(lambda match: bytes([int(match[1], 16)]), data).decode("utf-8")
    except UnicodeDecodeError:
        _refuse_login()
    if any(character < " " for character in decoded):
        _refuse_login()
    return decoded


def _refuse_login() -> NoReturn:
    raise InvalidInputError(
        "user or password of the mail server are not percent-encoded",
        hint="write % as %25, @ as %40, : as %3A, / as %2F, ? as %3F, & as %26",
    )


def _options(query: str, known: Sequence[str]) -> list[tuple[str, str]]:
    """Return the options after a question mark, each once. InvalidInputError: one is unknown, empty or repeated."""
    options: list[tuple[str, str]] = []
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name not in known or not value or name in dict(options):
            raise InvalidInputError(
                "the channel has an option that is unknown, empty or repeated",
                hint=f"after the ? may stand {' and '.join(f'{option}=…' for option in known)}",
            )
        options.append((name, value))
    return options
