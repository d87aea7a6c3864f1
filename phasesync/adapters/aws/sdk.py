"""
One call of AWS: watches what the SDK's own repeats did, and raises our errors in place of botocore's.

Must not repeat, log or decide anything.

The AWS SDK of this process: one boto3 session and how its clients are set up.

A session of its own costs 40 ms and 8 MiB, a client of a shared one 1.2 ms and 0.2 MiB, so every client hangs on one
session. boto3 is imported when the first client is made. Must not keep credentials.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

from phasesync import __version__
from phasesync.adapters.aws.bounded_http import end_call_at, own_deadline
from phasesync.adapters.aws.endpoint import (
    ENDPOINT_VARIABLES,
    check_endpoint,
    shown_endpoint,
    source_of_endpoint,
    unreadable_endpoint,
)
from phasesync.adapters.aws.errors import asks_for_fewer, may_have_landed, translate
from phasesync.adapters.aws.origin import NotOfAwsError, check_whole, is_of_aws
from phasesync.errors import PhasesyncError, SettingsError

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.client import BaseClient
    from botocore.config import Config


T = TypeVar("T")


class _Attempts(threading.local):
    """What became of the attempts of the call that this thread makes now; botocore calls back in the same thread."""

    sent = 0
    open = False
    """The newest attempt was sent and nothing is known of its end."""
    landed = False
    """An attempt that failed may have been carried out."""
    throttled = False
    """An attempt was refused because there were too many calls."""
    watched = False
    """A call is under way."""
    quotable = False
    """Nothing in the request is secret, so that AWS's text about it may be shown."""
    ends_at = 0.0
    """When it has to be over, in seconds of the monotonic clock; known from its first attempt on."""

    def begin(self) -> None:
        self.sent, self.open, self.landed, self.throttled = 0, False, False, False
        self.watched, self.quotable = True, False

    def end(self) -> None:
        self.watched = False

    def verdict(self) -> bool | None:
        """Return whether anything may have been carried out; None when no attempt was seen."""
        return (self.landed or self.open) if self.sent else None


_attempts = _Attempts()


_SECRET: Final = frozenset(
    [
        "SecretString",
        "SecretBinary",
        "ExternalId",
        "WebIdentityToken",
        "TokenCode",
        "ResourcePolicy",
        "PolicyDocument",
        "Policy",
    ]
)
"""Arguments that AWS's texts may repeat and nobody is to read: values, and documents that people write values into."""


class CallOverdueError(Exception):
    """A call has reached its deadline before this attempt was sent."""


def watch(client: "BaseClient", *, call_s: float) -> None:
    """
    Have a client report its attempts to `invoke`, and begin none when the call should be over.

    Without this, the last of three attempts hides the others: a refused connection after a lost answer would look as if
    nothing had been sent.

    Args:
        client: a new one.
        call_s: seconds for a whole call.
    """

    def on_send(**_: object) -> None:
        if _attempts.watched and not _attempts.sent:
            _attempts.ends_at = time.monotonic() + call_s
            end_call_at(_attempts.ends_at)
        elif _attempts.watched and time.monotonic() >= _attempts.ends_at:
            raise CallOverdueError
        _attempts.sent += 1
        _attempts.open = True

    client.meta.events.register("before-parameter-build", _on_request)
    client.meta.events.register("before-send", on_send)
    client.meta.events.register("before-parse", _on_answer)
    client.meta.events.register("needs-retry", _on_end)


def _on_request(*, params: Mapping[str, Any], **_: object) -> None:
    _attempts.quotable = not _SECRET.intersection(params)


def _on_answer(*, operation_model: Any, response_dict: Mapping[str, Any], **_: object) -> None:
    check_whole(
        response_dict["body"],
        response_dict["headers"],
        status=response_dict["status_code"],
        is_json=operation_model.service_model.resolved_protocol == "json",
    )


def _on_end(
    *,
    response: tuple[Any, Mapping[str, Any]] | None = None,
    caught_exception: Exception | None = None,
    **_: object,
) -> None:
    _attempts.open = False
    answer = None if response is None else response[1]
    if may_have_landed(caught_exception, answer):
        _attempts.landed = True
    if asks_for_fewer(answer):
        _attempts.throttled = True


def _nothing() -> None:
    """Nobody wants to know."""


def invoke(call: Callable[[], T], *, action: str, write: bool, throttled: Callable[[], None] = _nothing) -> T:
    """
    Make a call of a botocore client.

    Args:
        call: makes exactly one call of a client that is watched.
        action: its IAM action, such as `secretsmanager:PutSecretValue`.
        write: whether it changes something.
        throttled: called where AWS asked for fewer calls, even if one of the SDK's own repeats went through.

    Raises:
        PhasesyncError: what the table says, without cause and without context: the original repeats arguments.
    """
    _attempts.begin()
    try:
        with own_deadline():
            answer = call()
        if not is_of_aws(answer):
            raise NotOfAwsError
        return answer
    except Exception as exc:  # noqa: BLE001 -- parser errors of botocore share no base class with its others
        error = translate(exc, action=action, write=write, landed=_attempts.verdict(), quotable=_attempts.quotable)
    finally:
        _attempts.end()
        if _attempts.throttled:
            throttled()
    raise error


Service = Literal["secretsmanager", "sts", "kms", "iam"]

_OF_A_RUN: Final[tuple[Service, ...]] = ("secretsmanager", "sts")
_ALL: Final[tuple[Service, ...]] = ("secretsmanager", "sts", "kms", "iam")
_IN_PROFILE: Final = ("endpoint_url", "services", "use_fips_endpoint", "use_dualstack_endpoint")
_NO_KEYS: Final = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
"""For a client that makes no call."""


@dataclass(frozen=True, kw_only=True)
class CallLimits:
    """
    How long one call may take and how often the SDK repeats it by itself (its mode `standard`).

    They stand above AWS's own AWS_MAX_ATTEMPTS and AWS_RETRY_MODE: the life of a claim is made to outlive the longest
    call, and the mode `legacy` repeats throttled calls without telling of it.

    Attributes:
        connect_timeout_s: seconds to connect.
        read_timeout_s: seconds without a byte of the answer.
        attempts: attempts of one call, the first included.
        connections: how many connections a client keeps open. Threads beyond it open one for each call, and urllib3
            warns each time.
    """

    connect_timeout_s: int = 3
    read_timeout_s: int = 5
    attempts: int = 3
    connections: int = 10

    @property
    def call_s(self) -> int:
        """Seconds for a whole call: all attempts and the SDK's pauses between them. It ends then, whatever comes in."""
        return self.attempts * (self.connect_timeout_s + self.read_timeout_s + 2)


class Sdk:
    """Makes clients. Not for two threads at once: boto3 documents its sessions as not thread-safe."""

    def __init__(self, endpoint_url: str | None, limits: CallLimits) -> None:
        """
        Args:
            endpoint_url: above all that the SDK finds, as an argument of a client is; None = what the SDK finds.
            limits: of every call.

        Raises:
            SettingsError: the endpoint is neither https nor loopback.
        """
        if endpoint_url is not None:
            check_endpoint(endpoint_url, source="endpoint_url")
        self._endpoint_url = endpoint_url
        self.limits = limits
        self._session: Session | None = None

    def client(self, service: Service, region: str, keys: Mapping[str, str], *, once: bool = False) -> "BaseClient":
        """
        Make a client; its attempts are watched.

        Args:
            service: the service.
            region: the Region.
            keys: arguments that say who signs. The chain of the SDK is never asked here: it caches, and it waits.
            once: the SDK repeats no call of it: a call that creates something would create it twice.

        Raises:
            SettingsError: the Region, the endpoint or AWS's configuration files are not usable.
        """
        if not region:
            # boto3 would take the Region of its environment instead.
            raise SettingsError("no Region is set")
        from phasesync.adapters.aws.bounded_http import bound_client

        client = self._checked(service, region, keys, self.config(service, once=once))
        bound_client(client)
        watch(client, call_s=self.limits.call_s)
        return client

    def prepare(self) -> None:
        """Load what the first client of each service of a run would load: half a second that it need not wait."""
        for service in _OF_A_RUN:
            # The Region is that of no call; each one is in the data that is loaded.
            self._new(service, "us-east-1", _NO_KEYS, self.config(service)).close()

    def own_endpoints(self, region: str) -> dict[Service, str]:
        """
        Return service -> the endpoint that is in use in place of AWS's usual one, as people may see it.

        Args:
            region: where.

        Raises:
            SettingsError: an endpoint is neither https nor loopback.
        """
        from botocore.config import Config

        usual = Config(
            ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]  # The stubs lack it.
            use_fips_endpoint=False,
            use_dualstack_endpoint=False,
        )
        found: dict[Service, str] = {}
        services = _ALL if self._may_differ() else _OF_A_RUN
        for service in services:
            used = self._checked(service, region, _NO_KEYS, self.config(service))
            plain = self._new(service, region, _NO_KEYS, usual, endpoint_url=None)
            if used.meta.endpoint_url != plain.meta.endpoint_url:
                found[service] = shown_endpoint(used.meta.endpoint_url)
            used.close()
            plain.close()
        return found

    def _may_differ(self) -> bool:
        """Return whether endpoints are set at all: else clients of KMS and IAM, which take longest, tell nothing."""
        import botocore.session
        from botocore.exceptions import BotoCoreError

        try:
            profile = botocore.session.Session().get_scoped_config()
        except BotoCoreError:  # What is wrong with the files, a client says.
            return True
        named = (*ENDPOINT_VARIABLES, "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT")
        return (
            self._endpoint_url is not None
            or any(os.environ.get(variable) for variable in named)
            or any(name in profile for name in _IN_PROFILE)
        )

    def _checked(self, service: Service, region: str, keys: Mapping[str, str], config: "Config") -> "BaseClient":
        """Return a client whose endpoint is one that secrets may be sent to. SettingsError."""
        try:
            client = self._new(service, region, keys, config)
        except Exception as exc:  # noqa: BLE001 -- botocore raises classes of many kinds here, with arguments in them
            error: PhasesyncError = translate(exc, action=f"a client of {service} in {region!r}", write=False)
            if type(exc) is ValueError:  # So botocore says that an endpoint is no URL.
                error = unreadable_endpoint(source_of_endpoint(service, os.environ))
        else:
            check_endpoint(client.meta.endpoint_url, source=source_of_endpoint(service, os.environ))
            return client
        self._session = None  # It has read the configuration files: the next one reads them again.
        raise error

    def _new(
        self,
        service: Service,
        region: str,
        keys: Mapping[str, str],
        config: "Config",
        *,
        endpoint_url: str | Literal[False] | None = False,
    ) -> "BaseClient":
        import boto3.session

        if self._session is None:
            quiet_sdk_loggers()
            self._session = boto3.session.Session()
        make = cast("Callable[..., BaseClient]", self._session.client)
        url = self._endpoint_url if endpoint_url is False else endpoint_url
        return make(service, region_name=region, endpoint_url=url, config=config, **keys)

    def config(self, service: Service | None = None, *, once: bool = False) -> "Config":
        """
        Return how calls are made. What is not set here is as the SDK finds it: proxies, CA bundle, FIPS, endpoints.

        Args:
            service: of the calls; None = of any that the chain of the SDK may ask.
            once: no call is repeated.
        """
        from botocore.config import Config

        return Config(
            connect_timeout=self.limits.connect_timeout_s,
            read_timeout=self.limits.read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": 1 if once else self.limits.attempts},
            tcp_keepalive=True,
            max_pool_connections=self.limits.connections,
            user_agent_extra=f"phasesync/{__version__}",
            # The usual host of Secrets Manager is dual-stack already (User Guide, AWS Secrets Manager endpoints), and
            # the one that botocore takes for dual-stack is not among those of the guide. None = as the SDK finds it.
            use_dualstack_endpoint=False if service == "secretsmanager" else None,
        )


def quiet_sdk_loggers() -> None:
    """Keep the loggers of boto3, botocore and urllib3 at INFO or above: at DEBUG they print secret values."""
    known = [name for name in logging.root.manager.loggerDict if name.startswith(("boto3.", "botocore.", "urllib3."))]
    for name in ("boto3", "botocore", "urllib3"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.INFO))
    for name in known:
        logger = logging.getLogger(name)
        if logger.level:  # 0 = as its parent, which is clamped
            logger.setLevel(max(logger.level, logging.INFO))
