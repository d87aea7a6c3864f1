"""
The AWS SDK of this process: makes clients from one boto3 session, and makes one call with our errors in place of
botocore's.

A session of its own costs 40 ms and 8 MiB, a client of a shared session 1.2 ms and 0.2 MiB, so all clients share one
session. boto3 is imported when the first client is made. Must not keep credentials, and must not repeat a call.
"""

import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

from phasesync import __version__
from phasesync.adapters.aws.bounded_http import bound_client, end_call_at, own_deadline
from phasesync.adapters.aws.endpoint import (
    ENDPOINT_VARIABLES,
    check_endpoint,
    shown_endpoint,
    source_of_endpoint,
    unreadable_endpoint,
)
from phasesync.adapters.aws.errors import is_throttled, may_have_landed, translate
from phasesync.adapters.aws.request_reports import RequestReports
from phasesync.adapters.aws.response_check import NotFromAwsError, check_complete, is_from_aws
from phasesync.errors import PhasesyncError, SettingsError

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.client import BaseClient
    from botocore.config import Config


T = TypeVar("T")

# --- one call

_SECRET_ARGUMENTS: Final = frozenset(
    [
        "SecretString",
        "SecretBinary",
        "ExternalId",
        "WebIdentityToken",
        "TokenCode",
        "ResourcePolicy",
        "PolicyDocument",
        "Policy",
        "Message",
    ]
)
"""
Arguments that AWS's messages may repeat and must not be shown: values, documents in which people put values, and
messages to people.
"""


class CallOverdueError(Exception):
    """A call has reached its deadline before this attempt was sent."""


class _CallState(threading.local):
    """The attempts of the call that this thread makes now. botocore calls the handlers below in the same thread."""

    sent = 0
    """How many attempts were sent."""
    open = False
    """The newest attempt was sent, and its result is not known."""
    landed = False
    """AWS may have carried out an attempt that failed."""
    throttled = False
    """AWS throttled an attempt."""
    active = False
    """A call is under way."""
    quotable = False
    """The request has no secret argument, so that AWS's message about it may be shown."""
    deadline = 0.0
    """When the call has to end, in seconds of the monotonic clock; set by its first attempt."""

    def begin(self) -> None:
        self.sent, self.open, self.landed, self.throttled = 0, False, False, False
        self.active, self.quotable = True, False

    def end(self) -> None:
        self.active = False

    def may_have_landed(self) -> bool | None:
        """Return whether AWS may have carried out any attempt; None if no attempt was observed."""
        return (self.landed or self.open) if self.sent else None


_call_state = _CallState()


def observe_attempts(client: "BaseClient", *, call_s: float) -> None:
    """
    Have a client report its attempts to `invoke`, and begin no attempt after the deadline of the call.

    Without this, the last of three attempts hides the others: a refused connection after a lost response would look as
    if nothing had been sent.

    Args:
        client: a new one.
        call_s: seconds for a whole call.
    """

    def on_send(**_: object) -> None:
        if _call_state.active and not _call_state.sent:
            _call_state.deadline = time.monotonic() + call_s
            end_call_at(_call_state.deadline)
        elif _call_state.active and time.monotonic() >= _call_state.deadline:
            raise CallOverdueError
        _call_state.sent += 1
        _call_state.open = True

    client.meta.events.register("before-parameter-build", _on_request)
    client.meta.events.register("before-send", on_send)
    client.meta.events.register("before-parse", _on_response)
    client.meta.events.register("needs-retry", _on_end)


def _on_request(*, params: Mapping[str, Any], **_: object) -> None:
    _call_state.quotable = not _SECRET_ARGUMENTS.intersection(params)


def _on_response(*, operation_model: Any, response_dict: Mapping[str, Any], **_: object) -> None:
    if operation_model.has_streaming_output and response_dict["status_code"] < 300:
        return  # Whoever reads the body checks it.
    check_complete(
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
    _call_state.open = False
    parsed = None if response is None else response[1]
    if may_have_landed(caught_exception, parsed):
        _call_state.landed = True
    if is_throttled(parsed):
        _call_state.throttled = True


def _ignore() -> None:
    """The default for `invoke`, for a caller that is not interested in throttling."""


def invoke(call: Callable[[], T], *, action: str, write: bool, throttled: Callable[[], None] = _ignore) -> T:
    """
    Make a call of a botocore client.

    Args:
        call: makes exactly one call, of a client with observed attempts.
        action: its IAM action, such as `secretsmanager:PutSecretValue`.
        write: whether it changes something.
        throttled: called if AWS throttled any attempt, even if a later attempt of the SDK succeeded.

    Raises:
        PhasesyncError: the error of the table, without cause and without context: the original repeats arguments.
    """
    _call_state.begin()
    try:
        with own_deadline():
            response = call()
        if not is_from_aws(response):
            raise NotFromAwsError
        return response
    except Exception as exc:  # noqa: BLE001 -- parser errors of botocore share no base class with its others
        landed, quotable = _call_state.may_have_landed(), _call_state.quotable
        error = translate(exc, action=action, write=write, landed=landed, quotable=quotable)
    finally:
        _call_state.end()
        if _call_state.throttled:
            throttled()
    raise error


# --- clients

Service = Literal["secretsmanager", "sts", "kms", "iam", "sns", "s3"]

_SERVICES_OF_A_RUN: Final[tuple[Service, ...]] = ("secretsmanager", "sts")
_ALL_SERVICES: Final[tuple[Service, ...]] = ("secretsmanager", "sts", "kms", "iam", "sns", "s3")
_ENDPOINT_SETTINGS: Final = ("endpoint_url", "services", "use_fips_endpoint", "use_dualstack_endpoint")
_NO_KEYS: Final = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
"""For a client that makes no call."""


@dataclass(frozen=True, kw_only=True)
class CallLimits:
    """
    How long one call may take and how often the SDK repeats it by itself (its retry mode `standard`).

    They override AWS_MAX_ATTEMPTS and AWS_RETRY_MODE: a claim is made to live longer than the longest call, and the
    mode `legacy` repeats throttled calls without reporting it.

    Attributes:
        connect_timeout_s: seconds to connect.
        read_timeout_s: seconds without a byte of the response.
        attempts: attempts of one call, the first included.
        connections: how many connections a client keeps open. Further threads open one for each call, and urllib3
            warns each time.
    """

    connect_timeout_s: int = 3
    read_timeout_s: int = 5
    attempts: int = 3
    connections: int = 10

    @property
    def call_s(self) -> int:
        """Seconds after which a call ends: enough for all attempts and the pauses of the SDK between them."""
        return self.attempts * (self.connect_timeout_s + self.read_timeout_s + 2)


class Sdk:
    """Makes clients. For one thread at a time: boto3 documents its sessions as not thread-safe."""

    def __init__(self, endpoint_url: str | None, limits: CallLimits) -> None:
        """
        Args:
            endpoint_url: overrides what the SDK is configured with; None means what it is configured with.
            limits: of every call.

        Raises:
            SettingsError: the endpoint is neither https nor loopback.
        """
        if endpoint_url is not None:
            check_endpoint(endpoint_url, source="endpoint_url")
        self._endpoint_url = endpoint_url
        self.limits = limits
        self.reports = RequestReports()
        """Of all clients that this makes."""
        self._session: Session | None = None

    def client(self, service: Service, region: str, keys: Mapping[str, str], *, once: bool = False) -> "BaseClient":
        """
        Make a client; its attempts are observed.

        Args:
            service: the service.
            region: the Region.
            keys: arguments with the keys that sign. The chain of the SDK is not used here: it caches, and it waits.
            once: the SDK repeats no call: a repeated call could create something twice.

        Raises:
            SettingsError: the Region, the endpoint or AWS's configuration files are not usable.
        """
        if not region:
            # Otherwise boto3 takes the Region of its environment.
            raise SettingsError("no Region is set")
        client = self._checked(service, region, keys, self.config(service, once=once))
        bound_client(client)
        observe_attempts(client, call_s=self.limits.call_s)
        self.reports.watch(client)
        return client

    def prepare(self) -> None:
        """Load the data that the first client of each service of a run needs, which takes half a second."""
        for service in _SERVICES_OF_A_RUN:
            # Any Region will do: the data has all of them.
            self._new(service, "us-east-1", _NO_KEYS, self.config(service)).close()

    def custom_endpoints(self, region: str) -> dict[Service, str]:
        """
        Return service -> the endpoint that replaces AWS's usual one, without what may be a password.

        Raises:
            SettingsError: an endpoint is neither https nor loopback.
        """
        from botocore.config import Config

        usual = Config(
            ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]  # The stubs lack it.
            use_fips_endpoint=False,
            use_dualstack_endpoint=False,
        )
        endpoints: dict[Service, str] = {}
        services = _ALL_SERVICES if self._has_endpoint_settings() else _SERVICES_OF_A_RUN
        for service in services:
            used = self._checked(service, region, _NO_KEYS, self.config(service))
            plain = self._new(service, region, _NO_KEYS, usual, endpoint_url=None)
            if used.meta.endpoint_url != plain.meta.endpoint_url:
                endpoints[service] = shown_endpoint(used.meta.endpoint_url)
            used.close()
            plain.close()
        return endpoints

    def _has_endpoint_settings(self) -> bool:
        """Return whether any endpoint may be set. If not, no client of KMS and IAM is made: these take longest."""
        import botocore.session
        from botocore.exceptions import BotoCoreError

        try:
            profile = botocore.session.Session().get_scoped_config()
        except BotoCoreError:  # A client reports what is wrong with the files.
            return True
        variables = (*ENDPOINT_VARIABLES, "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT")
        return (
            self._endpoint_url is not None
            or any(os.environ.get(variable) for variable in variables)
            or any(name in profile for name in _ENDPOINT_SETTINGS)
        )

    def _checked(self, service: Service, region: str, keys: Mapping[str, str], config: "Config") -> "BaseClient":
        """Return a client after checking that secrets may be sent to its endpoint. SettingsError."""
        try:
            client = self._new(service, region, keys, config)
        except Exception as exc:  # noqa: BLE001 -- botocore raises classes of many kinds here, with arguments in them
            error: PhasesyncError = translate(exc, action=f"a client of {service} in {region!r}", write=False)
            if type(exc) is ValueError:  # botocore raises it for an endpoint that is no URL.
                error = unreadable_endpoint(source_of_endpoint(service, os.environ))
        else:
            check_endpoint(client.meta.endpoint_url, source=source_of_endpoint(service, os.environ))
            return client
        self._session = None  # It caches the configuration files: the next session reads them again.
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
        Return how calls are made. The SDK takes from its own configuration: proxies, CA bundle, FIPS, endpoints.

        Args:
            service: of the calls; None means any service that the chain of the SDK may call.
            once: no call is repeated.
        """
        from botocore import __version__ as botocore_version
        from botocore.config import Config

        return Config(
            connect_timeout=self.limits.connect_timeout_s,
            read_timeout=self.limits.read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": 1 if once else self.limits.attempts},
            tcp_keepalive=True,
            max_pool_connections=self.limits.connections,
            # Ours as a whole: botocore makes its own anew for each request, which is a tenth of the time of a call.
            user_agent=f"phasesync/{__version__} Botocore/{botocore_version} Python/{platform.python_version()}",
            # The usual host of Secrets Manager is dual-stack already (User Guide, AWS Secrets Manager endpoints). The
            # host that botocore uses for dual-stack is not in that guide. None means as the SDK is configured.
            use_dualstack_endpoint=False if service == "secretsmanager" else None,
        )


def quiet_sdk_loggers() -> None:
    """Keep the loggers of boto3, botocore and urllib3 at INFO or above: at DEBUG they print secret values."""
    loggers = [name for name in logging.root.manager.loggerDict if name.startswith(("boto3.", "botocore.", "urllib3."))]
    for name in ("boto3", "botocore", "urllib3"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.INFO))
    for name in loggers:
        logger = logging.getLogger(name)
        if logger.level:  # 0 = as its parent, which is limited already
            logger.setLevel(max(logger.level, logging.INFO))
