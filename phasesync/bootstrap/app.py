"""
The wired application: the context that use cases work with, and the use cases that a command asks for.

Everything is made on first use, so that a command pays only for what it uses: `syncs list` imports no AWS SDK.
"""

import os
import random
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from phasesync.adapters.clock import SystemClock
from phasesync.settings.model import Settings
from phasesync.store import Store
from phasesync.store.key_ring import RootKey
from phasesync.store.migrate import SchemaStatus, status_of
from phasesync.store.retirement import refuse_retired

if TYPE_CHECKING:
    from phasesync.adapters.aws.sdk import CallLimits
    from phasesync.adapters.aws.session import AwsClients
    from phasesync.adapters.channels.mail import MailSettings
    from phasesync.core.backup_schedule import BackupSchedule
    from phasesync.core.events import Event
    from phasesync.core.sync import Sync
    from phasesync.core.sync_windows import WindowState
    from phasesync.engine.context import Context
    from phasesync.engine.credential_admin import CredentialAdmin
    from phasesync.engine.dynamic_admin import DynamicAdmin
    from phasesync.engine.leases.operations import LeaseOperations
    from phasesync.engine.notification_admin import NotificationAdmin
    from phasesync.engine.sync_admin import SyncAdmin
    from phasesync.engine.sync_operations import SyncOperations
    from phasesync.ports.backups import BackupStorage
    from phasesync.ports.channels import ChannelSender
    from phasesync.ports.destination import Destinations
    from phasesync.ports.issuer import LeaseIssuers
    from phasesync.ports.runtime import CredentialTester, EventSink
    from phasesync.ports.tracing import Tracer
    from phasesync.store.figures import Figures


class _DiscardedEvents:
    """For commands, which print themselves what they did."""

    def emit(self, event: "Event") -> None:
        """Discard an event."""


class Application:
    """An opened installation: everything that a command or a daemon works with, on one database."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        root_keys: Sequence[RootKey],
        events: "EventSink | None" = None,
        current: Callable[[], Settings] | None = None,
        tracer: "Tracer | None" = None,
    ) -> None:
        """
        Args:
            settings: the settings at the start.
            store: the opened database.
            root_keys: those in use, for their warnings; the store has its own.
            events: takes what happens; None for commands.
            current: returns the settings in effect now; None if they do not change.
            tracer: takes how long the parts of a run take; None: nobody asks.
        """
        self.settings = settings
        self.current = current or (lambda: settings)
        of_keys = dict.fromkeys(line for root in root_keys for line in root.warnings)
        self.warnings = (*of_keys, *store.database.warnings())
        self.store = store
        self._clock = SystemClock()
        self._owner = f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._events: EventSink = events or _DiscardedEvents()
        self._tracer = tracer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close connections to the database and to AWS."""
        if "clients" in self.__dict__:
            self.clients.close()
        self.store.close()

    @cached_property
    def context(self) -> "Context":
        """What use cases work with."""
        from phasesync.engine.context import Context
        from phasesync.engine.tracing import NO_TRACES

        return Context(
            store=self.store,
            clock=self._clock,
            events=self._events,
            owner=self._owner,
            claim_ttl=self._claim_ttl,
            lease_claim_ttl=lambda: self._claim_ttl + timedelta(seconds=self._call_limits.call_s),
            random=random.random,
            coalesce=lambda: timedelta(milliseconds=self.current().daemon.coalesce_ms),
            make_destinations=self._make_destinations,
            make_issuers=self._make_issuers,
            make_tester=self._make_tester,
            windows=lambda: self.current().daemon.windows,
            tracer=self._tracer or NO_TRACES,
        )

    def schema(self) -> SchemaStatus:
        """
        Return how the schema of the database stands.

        Raises:
            StoreUnavailableError: the database cannot be written now.
            RetiredDatabaseError: it was copied meanwhile.
        """
        self.store.database.check_writable()
        schema = status_of(self.store.database, queued=self.settings.daemon.queued, retirement=True)
        if schema.retirement is not None:
            refuse_retired(schema.retirement.at, schema.retirement.to)
        return schema

    def read_figures(self, each: bool) -> "Figures":
        """
        Return what the database says for metrics; `each`: also of the syncs one by one.

        Raises:
            StoreUnavailableError: the database cannot be read now.
        """
        from phasesync.adapters.issuers import REGISTRY, spec_of

        return self.store.figures.read(
            revocable=[kind for kind in REGISTRY if spec_of(kind).traits.revocable], each=each
        )

    def window_state(self, sync: "Sync") -> "WindowState | None":
        """Return how the maintenance windows of a sync stand; None if it has none."""
        from phasesync.core.sync_windows import window_state

        return window_state(sync, self.current().daemon.windows, self._clock.now())

    def endpoint_note(self, region: str) -> str:
        """Return text that names the custom endpoints of a Region; empty if all are AWS's own."""
        endpoints = self.clients.endpoints(region)
        urls = set(endpoints.values())
        if len(urls) == 1 and len(endpoints) > 1:
            return f", endpoint {urls.pop()}"
        return "".join(f", endpoint of {service} {url}" for service, url in sorted(endpoints.items()))

    @cached_property
    def clients(self) -> "AwsClients":
        """Shared clients of AWS."""
        from phasesync.adapters.aws.rate_limiter import MAX_WAIT, RateLimiter
        from phasesync.adapters.aws.session import AwsClients
        from phasesync.engine.scheduler import count_active

        rate_limiter = RateLimiter(
            self._clock.monotonic,
            max_wait=min(MAX_WAIT, self._claim_ttl * 2 / 3),
            used=self.settings.aws.rate_percent / 100,
        )
        # A command is one more caller beside the active daemons. A daemon learns their number with each heartbeat.
        rate_limiter.share_among(count_active(self.store.daemons) + 1)
        return AwsClients(
            source_of=self.store.credentials.get_by_id,
            clock=self._clock,
            instance_id=self.store.instance_id,
            limits=self._call_limits,
            rate_limiter=rate_limiter,
        )

    @cached_property
    def operations(self) -> "SyncOperations":
        """What an operator does with a sync."""
        from phasesync.engine.sync_operations import SyncOperations

        return SyncOperations(self.context)

    @cached_property
    def configuration(self) -> "SyncAdmin":
        """Adds and changes syncs."""
        from phasesync.engine.sync_admin import SyncAdmin

        return SyncAdmin(self.context)

    @cached_property
    def credential_operations(self) -> "CredentialAdmin":
        """What an operator does with a credential."""
        from phasesync.engine.credential_admin import CredentialAdmin

        return CredentialAdmin(self.context)

    @cached_property
    def dynamic_configuration(self) -> "DynamicAdmin":
        """Adds and changes dynamic secrets."""
        from phasesync.engine.dynamic_admin import DynamicAdmin

        return DynamicAdmin(self.context)

    @cached_property
    def lease_operations(self) -> "LeaseOperations":
        """What an operator does with leases."""
        import secrets

        from phasesync.core.lease_users import RANDOM, RANDOM_ALPHABET
        from phasesync.engine.leases.operations import LeaseOperations

        # Instants that a clock left ahead are moved before the clock as it is writes any.
        self.store.clock_watch.check(self._owner)
        return LeaseOperations(
            self.context,
            random_text=lambda: "".join(secrets.choice(RANDOM_ALPHABET) for _ in range(RANDOM)),
        )

    @cached_property
    def notification_operations(self) -> "NotificationAdmin":
        """What an operator does with a notification."""
        from phasesync.engine.notification_admin import NotificationAdmin

        return NotificationAdmin(self.context, random_bytes=os.urandom)

    @cached_property
    def channels(self) -> "ChannelSender":
        """Sends notifications."""
        from phasesync.adapters.channels import ChannelSenders

        return ChannelSenders(
            clock=self._clock,
            clients=lambda: self.clients,
            credential_of=self.store.credentials.get,
            mail=lambda: mail_settings(self.current()),
        )

    def open_backup_storage(self, schedule: "BackupSchedule") -> "BackupStorage":
        """Return the place of scheduled backups."""
        from phasesync.adapters.backup_storage import open_storage

        return open_storage(schedule, clients=lambda: self.clients, credential_of=self.store.credentials.get_by_id)

    def _make_destinations(self) -> "Destinations":
        from phasesync.adapters.destinations import RegisteredDestinations

        return RegisteredDestinations(self.clients, instance_id=self.store.instance_id)

    def _make_issuers(self) -> "LeaseIssuers":
        from phasesync.adapters.issuers import RegisteredIssuers

        return RegisteredIssuers(self.clients)

    def _make_tester(self) -> "CredentialTester":
        from phasesync.adapters.aws.credential_tester import AwsCredentialTester

        return AwsCredentialTester(self.clients)

    @property
    def _claim_ttl(self) -> timedelta:
        return timedelta(seconds=self.settings.daemon.claim_ttl_s)

    @property
    def _call_limits(self) -> "CallLimits":
        return call_limits(self.settings)


def call_limits(settings: Settings) -> "CallLimits":
    """Return the limits of calls of AWS by the settings."""
    from phasesync.adapters.aws.sdk import CallLimits

    return CallLimits(
        connect_timeout_s=settings.aws.connect_timeout_s,
        read_timeout_s=settings.aws.read_timeout_s,
        attempts=settings.aws.max_attempts,
        # Beside the workers: the sweep, and a test of the credential. Lease threads use clients of their own.
        connections=max(10, settings.daemon.workers + 2),
    )


def mail_settings(settings: Settings) -> "MailSettings":
    """Return how mail is sent by the settings."""
    from phasesync.adapters.channels.mail import MailSettings
    from phasesync.core.channels import parse_mail_server
    from phasesync.core.model import SecretValue

    mail = settings.notifications
    return MailSettings(
        server=None if mail.smtp_url is None else parse_mail_server(mail.smtp_url),
        password=None if mail.smtp_password is None else SecretValue(mail.smtp_password.get_secret_value()),
        password_file=mail.smtp_password_file,
        sender=mail.mail_from,
    )
