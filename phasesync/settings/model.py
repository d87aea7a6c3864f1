"""
The settings: names, units, defaults, bounds and the reason for each.

It reads nothing from outside. No message repeats a value, which may be a database URL or a root key.
"""

import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from phasesync.core.audit import AuditKind
from phasesync.core.names import without_keys
from phasesync.errors import InvalidInputError

PREFIX = "PHASESYNC_"

_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]*):(?P<port>[0-9]{1,5})")
_KMS_KEY = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]{1,128}")
_DATABASES = ("sqlite:", "postgresql:", "postgresql+psycopg:", "postgres:")


def _expanded(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("must not hold a NUL")
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("a path that begins with ~ needs a home directory, and this user has none") from None


def _in_home(path: str) -> Path:
    """Return a default in the home directory; with its ~ if there is no home, which is an error only if it is used."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _in_data_dir(known: Mapping[str, Any]) -> str:
    """Return the URL of the default database, with %, ? and non-ASCII characters percent-encoded."""
    return "sqlite:///" + quote(os.fsencode(f"{known.get('data_dir', '')}/phasesync.db"), safe=_PLAIN_IN_PATHS)


_PLAIN_IN_PATHS = "/ !\"#$&'()*+,:;<=>@[\\]^`{|}~"


def _address(text: str) -> str:
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65_535:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:8787 or [::1]:8787; port 0 takes a free one")
    return text


def _database(url: str) -> str:
    url = url.strip()
    if not url.startswith(_DATABASES):
        raise ValueError("must be a URL that begins with sqlite: or postgresql:")
    return url


def _kms_key(arn: str) -> str:
    arn = arn.strip()
    if _KMS_KEY.fullmatch(arn) is None:
        raise ValueError("must be the ARN of a KMS key, such as arn:aws:kms:eu-central-1:111122223333:key/ID")
    return arn


def _mail_server(url: str) -> str:
    # Imported here, so that a command without a mail server does not pay for it.
    from phasesync.core.channels import parse_mail_server

    try:
        server = parse_mail_server(url.strip())
    except InvalidInputError as error:
        raise ValueError(f"{error.message}; {error.hint}" if error.hint else error.message) from None
    if server.password is not None:
        raise ValueError("must have no password; smtp_password_file names the file that has it")
    return url.strip()


def _mail_address(text: str) -> str:
    from phasesync.core.channels import is_mail_address

    if not is_mail_address(text.strip()):
        raise ValueError("must be one mail address, such as phasesync@example.com")
    return text.strip()


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _windows(value: object) -> object:
    """Return maintenance windows as canonical texts."""
    texts = [part.strip() for part in value.split(";")] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise ValueError('must be a list of texts, such as ["deny: 08:00-18:00 Mon-Fri Europe/Berlin"]')
    if not any(texts):
        return ()
    # Imported here, so that a command without windows does not pay for it.
    from phasesync.core.windows import canonical_windows

    try:
        return canonical_windows(text for text in texts if text)
    except InvalidInputError as error:
        raise ValueError(error.message) from None


def _no_key(value: object) -> object:
    if isinstance(value, str) and without_keys(value.strip()) == "…":
        raise ValueError("must name a file, and what is given is a key itself: put it into a file of mode 0600")
    return value


UserPath = Annotated[Path, AfterValidator(_expanded)]
KeyPath = Annotated[Path, BeforeValidator(_no_key), AfterValidator(_expanded)]


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class HttpSettings(_Group):
    """Health, readiness and metrics of the daemon."""

    listen: Annotated[str, AfterValidator(_address)] = "127.0.0.1:8787"
    """HOST:PORT. Loopback by default: who may ask is for you to decide. Port 0 takes a free one."""

    @property
    def host(self) -> str:
        """Host without the brackets of IPv6; empty = every address."""
        return self.listen.rpartition(":")[0].removeprefix("[").removesuffix("]")

    @property
    def port(self) -> int:
        """Port, 0 = any free one."""
        return int(self.listen.rpartition(":")[2])


class MetricsSettings(_Group):
    """What /metrics and `phasesync metrics` show."""

    per_sync: bool = False
    """Whether each sync has series of its own: a name of a sync is a label then. Off, since syncs may be many."""


class LogSettings(_Group):
    """What the daemon writes to stderr."""

    level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"
    """The least important level that is written. At info a run is one line."""
    format: Literal["auto", "json", "console"] = "auto"
    """auto writes for people on a terminal, and JSON lines everywhere else."""


class DaemonSettings(_Group):
    """How the daemon works."""

    workers: int = Field(8, ge=1, le=64)
    """Threads that reconcile. They wait for AWS most of the time; beyond 32 AWS's quotas are the limit."""
    dispatch: Literal["threads", "procrastinate"] = "threads"
    """How due syncs reach the threads of the daemons: claimed by each daemon, or by a queue that all of them share."""
    poll_interval_ms: int = Field(1_000, ge=10, le=60_000)
    """Milliseconds between two checks for what is due, if nothing wakes the daemon. A commit does, within 10 ms."""
    sweep_interval_s: int = Field(30, ge=5, le=300)
    """Seconds between two checks of what changed at AWS: one list call for each account and Region. No more than the
    usual --interval of a sync: one with a shorter interval is checked by itself."""
    full_sweep_interval_s: int = Field(3_600, ge=300, le=86_400)
    """Seconds between two lists of everything, 100 objects a call: they find objects that lost our tag."""
    coalesce_ms: int = Field(500, ge=0, le=60_000)
    """Milliseconds in which edits that follow a first one become one more write: AWS keeps 100 versions."""
    windows: Annotated[tuple[str, ...], BeforeValidator(_windows)] = ()
    """Maintenance windows of all syncs, beside those of apps and syncs. As a variable: separated by semicolons."""
    claim_ttl_s: int = Field(15, ge=6, le=600)
    """Seconds until another daemon may take over the syncs of a dead daemon; renewed at a third of it."""
    drain_s: int = Field(8, ge=0, le=300)
    """Seconds that a call in hand gets after SIGTERM; Kubernetes kills after 30."""

    @property
    def queued(self) -> bool:
        """Whether a queue that all daemons share distributes what is due."""
        return self.dispatch == "procrastinate"


class RetentionSettings(_Group):
    """What is kept, and how long."""

    runs_days: int = Field(90, ge=1, le=3_650)
    """Days that runs and ended leases are kept: a quarter, for reviews. The newest run of each sync stays always."""
    audit_change_days: int = Field(1_095, ge=1, le=36_500)
    """Days that the audit log keeps what was changed, here or at AWS."""
    audit_approval_days: int = Field(1_095, ge=1, le=36_500)
    """Days that the audit log keeps requests, approvals and refusals of changes."""
    audit_reveal_days: int = Field(1_095, ge=1, le=36_500)
    """Days that the audit log keeps who was shown plaintext."""
    audit_lease_days: int = Field(400, ge=1, le=36_500)
    """Days that the audit log keeps leases: the most numerous rows."""
    audit_access_days: int = Field(1_095, ge=1, le=36_500)
    """Days that the audit log keeps backups, escrowed keys and exports of the audit log."""
    audit_refusal_days: int = Field(1_095, ge=1, le=36_500)
    """Days that the audit log keeps attempts that were refused or failed."""

    @property
    def audit_kept(self) -> dict[AuditKind, timedelta]:
        """How long the audit log keeps rows, by kind."""
        return {kind: timedelta(days=getattr(self, f"audit_{kind.value}_days")) for kind in AuditKind}


class ApprovalSettings(_Group):
    """Who counts as somebody else where a change needs an approval."""

    by: Literal["actor", "os-user"] = "actor"
    """os-user compares the users of the operating system alone, so that --actor makes nobody another person. actor
    compares the claimed name too: in a container all work as one user."""


class NotificationSettings(_Group):
    """How notifications are sent."""

    smtp_url: Annotated[str, AfterValidator(_mail_server)] | None = None
    """smtp://USER@HOST:PORT with STARTTLS, or smtps://: the mail server of all channels that name none of their own."""
    smtp_password_file: UserPath | None = None
    """File with the password of its user. Read each time, so that a new one counts at once."""
    smtp_password: SecretStr | None = None
    """The password itself, for places that have no files. Environment only: never in the settings file."""
    mail_from: Annotated[str, AfterValidator(_mail_address)] | None = None
    """Who sends the mail. Default: the user of the mail server if it is an address, else phasesync@ and the host."""


class AwsSettings(_Group):
    """How AWS is called."""

    connect_timeout_s: int = Field(3, ge=1, le=60)
    """Seconds until a connection counts as failed."""
    read_timeout_s: int = Field(5, ge=1, le=60)
    """Seconds that a call waits for an answer; then its outcome counts as unknown. Below drain_s, for a clean stop."""
    max_attempts: int = Field(3, ge=1, le=10)
    """Attempts of one call within the AWS SDK, the first included. Longer pauses are the daemon's."""
    rate_percent: int = Field(80, ge=1, le=10_000)
    """Percent of AWS's request rates that all daemons together use. More than 100 is for endpoints without them."""


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    data_dir: UserPath = Field(default_factory=lambda: _in_home("~/.local/share/phasesync"), validate_default=False)
    """Directory of what phasesync writes. Default: systemd's STATE_DIRECTORY, else XDG_DATA_HOME/phasesync."""
    database_url: Annotated[str, AfterValidator(_database)] = Field(default_factory=_in_data_dir, repr=False)
    """SQLite for one host, PostgreSQL (postgresql://…) for several. Default: phasesync.db in data_dir."""
    root_key_file: KeyPath = Field(
        default_factory=lambda: _in_home("~/.config/phasesync/root.key"), validate_default=False
    )
    """File with the root key (base64 of 32 bytes, mode 0600). Outside data_dir: a backup must not hold its own key."""
    root_key: SecretStr | None = None
    """The root key itself, for places that have no files. Environment only: never in the settings file."""
    root_key_next: SecretStr | None = None
    """The key that `phasesync keys rotate-root` puts in its place, while it does. Environment only as well."""
    root_key_kms_key: Annotated[str, AfterValidator(_kms_key)] | None = None
    """ARN of the KMS key that encrypts the root key, which then lies in the database. AWS is asked at starts only."""
    root_key_kms_key_next: Annotated[str, AfterValidator(_kms_key)] | None = None
    """ARN of the KMS key that takes its place, while `phasesync keys rotate-root` goes from one KMS key to another."""
    age_identity_file: KeyPath | None = None
    """File with the age identity (mode 0600) that opens a root key file which is an age file."""
    http: HttpSettings = HttpSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()
    daemon: DaemonSettings = DaemonSettings()
    retention: RetentionSettings = RetentionSettings()
    approvals: ApprovalSettings = ApprovalSettings()
    notifications: NotificationSettings = NotificationSettings()
    aws: AwsSettings = AwsSettings()

    @property
    def named_root_key_file(self) -> Path | None:
        """`root_key_file` if it is set, None if it is the default, which need not exist."""
        return self.root_key_file if "root_key_file" in self.model_fields_set else None

    @property
    def default_root_key_file(self) -> Path | None:
        """Where `init` puts the root key, None if that is in the home directory and the user has none."""
        return None if self.root_key_file.parts[:1] == ("~",) else self.root_key_file

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take nothing from outside: only `load_settings` reads the environment and files."""
        return (init_settings,)


ENVIRONMENT_ONLY: Final = {
    "root_key": "put the key into a file of its own with mode 0600 and name it with root_key_file",
    "root_key_next": "put the key into a file of its own with mode 0600, beside the one that root_key_file names, as "
    "FILE.next",
    "notifications.smtp_password": "put it into a file of its own with mode 0600 and name it with smtp_password_file",
}
"""Secrets that must not stand in the settings file -> where to put them."""


def secret_variables() -> frozenset[str]:
    """Return the environment variables that hold secrets of ours: no other program gets them."""
    return frozenset(variable_of(name) for name in ENVIRONMENT_ONLY)


def setting_names(model: type[BaseModel] = Settings) -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting as dotted name and field."""
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from ((f"{name}.{inner}", of) for inner, of in setting_names(info.annotation))
        else:
            yield name, info


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + name.replace(".", "__").upper()
