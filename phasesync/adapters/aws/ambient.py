"""
Resolves keys through the default chain of the AWS SDK, from scratch each time: environment, profile, process, web
identity, sign-in, container, instance role.

The SDK caches the result of its chain for the life of a session and refreshes it inside of calls, under its own lock
and without a limit. Here each resolution uses a session of its own; its processes are killed and its requests end when
the time is over. Whatever a provider raises becomes a CredentialRejectedError that names the file, process or profile
and says what a person can do. It never repeats what is in a file, nor the text of an exception.
"""

import base64
import binascii
import errno
import json
import os
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

from phasesync.adapters.aws.bounded_http import own_deadline
from phasesync.adapters.aws.credential_process import (
    OWN_PROFILE_MESSAGE,
    LimitedProcess,
    ProcessOverdueError,
    own_profile_error,
)
from phasesync.adapters.aws.endpoint import check_endpoint, source_of_endpoint
from phasesync.adapters.aws.error_codes import EXCEPTIONS, class_of_code, row_of_exception
from phasesync.adapters.aws.login import RESOLVE_WITHIN_S, Keys, Stamp, are_sendable
from phasesync.errors import CredentialRejectedError, PermissionDeniedError, PhasesyncError

if TYPE_CHECKING:
    from botocore.config import Config
    from botocore.session import Session


_HINT: Final = (
    "phasesync uses the identity of its own process here: correct what the error names, or check it with "
    "aws sts get-caller-identity as the same user; the daemon tries again by itself"
)
_NOTHING_FOUND: Final = (
    "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the host a role; "
    "aws sts get-caller-identity as the same user shows what the AWS SDK finds; the daemon tries again by itself"
)

_NOT_A_DOCUMENT: Final = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""What providers raise if a document that they read is not valid."""


def stamp_of_files() -> Stamp:
    """Return a value that changes when a file changes that the chain reads: inodes, sizes and times."""
    environ = os.environ
    paths = (
        environ.get("AWS_CONFIG_FILE") or "~/.aws/config",
        environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
        environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") or "",
    )
    return tuple(_stamp(os.path.expanduser(path)) for path in paths)


def _stamp(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError as exc:
        return exc.errno
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def name_of_chain() -> str:
    """Return the name of the chain for messages, with the profile and the files that it reads."""
    profile = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
    return (
        f"the default chain of the AWS SDK (profile {profile!r} in {_file('AWS_CONFIG_FILE', 'config')} and "
        f"{_file('AWS_SHARED_CREDENTIALS_FILE', 'credentials')})"
    )


def find_keys(region: str, config: "Config", *, within_s: float = RESOLVE_WITHIN_S) -> Keys:
    """
    Return the keys that the chain gives.

    Args:
        region: where a provider of the chain calls STS, if nothing else names a Region.
        config: of such calls.
        within_s: seconds after which processes are killed and requests end.

    Raises:
        CredentialRejectedError: there are no keys, or a provider failed; it says which and why.
        SettingsError: the chain leads back to phasesync itself.
    """
    deadline = time.monotonic() + within_s
    walk = _ChainWalk(deadline, within_s)
    with own_deadline(deadline):
        try:
            return walk.keys(region, config)
        except PhasesyncError as exc:
            error = exc
        except Exception as exc:  # noqa: BLE001 -- providers raise anything; its text repeats contents of files
            error = walk.failure(exc)
    raise error


class _ChainWalk:
    """One walk along the chain; knows the provider that it has come to."""

    def __init__(self, deadline: float, within_s: float) -> None:
        self._deadline = deadline
        self._within_s = within_s
        self._profile = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
        self._method = ""
        self._session: Session | None = None
        self._process: LimitedProcess | None = None
        self._program = ""
        self._token_file = ""

    def keys(self, region: str, config: "Config") -> Keys:
        session = self._session = _new_session(config)
        for provider in self._chain(session, region):
            self._method = provider.METHOD
            credentials = provider.load()
            if credentials is not None:
                return _frozen_keys(credentials)
        raise CredentialRejectedError(
            "no AWS credentials were found: not in the environment, not in the profile "
            f"{self._profile!r} ({_file('AWS_SHARED_CREDENTIALS_FILE', 'credentials')}, "
            f"{_file('AWS_CONFIG_FILE', 'config')}), and no role of the host",
            hint=_NOTHING_FOUND,
        )

    def failure(self, exc: Exception) -> PhasesyncError:
        """Return the error for what a provider raised."""
        if OWN_PROFILE_MESSAGE in str(exc):  # Printed by the process that the SDK started.
            return own_profile_error()
        code = request_id = None
        response = getattr(exc, "response", None)
        if isinstance(response, Mapping) and "Error" in response:
            metadata = response.get("ResponseMetadata", {})
            response_code = str(response["Error"].get("Code", ""))
            error_class = class_of_code(response_code, metadata.get("HTTPStatusCode", 0))
            if issubclass(error_class, (CredentialRejectedError, PermissionDeniedError)):
                code, request_id = response_code, metadata.get("RequestId")
        source = self._source()
        file = exc.filename if isinstance(exc, OSError) else None
        if isinstance(file, str) and file not in source:
            source = f"{file} ({source})"
        hint = hint_for(exc, profile=self._profile, config=self._config(), token_file=self._token_file) or _HINT
        return CredentialRejectedError(f"{source}: {self._reason(exc)}", hint=hint, code=code, request_id=request_id)

    def _config(self) -> Mapping[str, Any]:
        """Return the profiles of AWS's configuration files; none if the files cannot be read."""
        try:
            profiles: Mapping[str, Any] = {} if self._session is None else self._session.full_config.get("profiles", {})
        except Exception:  # noqa: BLE001 -- what is wrong with the files is the failure that is reported
            return {}
        return profiles

    def _chain(self, session: "Session", region: str) -> list[Any]:
        from botocore.credentials import (
            AssumeRoleWithWebIdentityProvider,
            ProcessProvider,
            ProfileProviderBuilder,
            create_credential_resolver,
        )
        from botocore.utils import FileWebIdentityTokenLoader

        from phasesync.adapters.aws.bounded_http import bound

        def load_config() -> Any:
            return session.full_config

        walk = self

        class Builder(ProfileProviderBuilder):
            """Starts processes with a time limit, also those of a source profile."""

            def _create_process_provider(self, profile_name: str) -> ProcessProvider:
                return ProcessProvider(profile_name=profile_name, load_config=load_config, popen=walk._start)

        def token_loader(path: str) -> Any:
            walk._token_file = path
            return FileWebIdentityTokenLoader(path)

        resolver = create_credential_resolver(session, region_name=region)
        for number, provider in enumerate(resolver.providers):
            # The HTTP sessions for IMDS and containers belong to no client.
            for fetcher in ("_role_fetcher", "_fetcher"):
                if hasattr(provider, fetcher):
                    bound(getattr(provider, fetcher)._session)
            if hasattr(provider, "_profile_provider_builder"):
                provider._profile_provider_builder = Builder(session, cache={}, region_name=region)
            if isinstance(provider, ProcessProvider):
                resolver.providers[number] = ProcessProvider(
                    profile_name=self._profile, load_config=load_config, popen=self._start
                )
            if isinstance(provider, AssumeRoleWithWebIdentityProvider):
                provider._token_loader_cls = token_loader  # type: ignore[attr-defined]
        return list(resolver.providers)

    def _start(self, arguments: Sequence[str], **_: Any) -> LimitedProcess:
        self._program, self._process = arguments[0] if arguments else "", None
        self._process = LimitedProcess(arguments, deadline=self._deadline)
        return self._process

    def _source(self) -> str:
        """Return the name of the provider that failed, with its file, process or profile."""
        if self._program:
            return f"credential_process of the AWS profile {self._profile!r} ({self._program})"
        if self._token_file:
            return f"web identity token file {self._token_file}"
        config, credentials = _file("AWS_CONFIG_FILE", "config"), _file("AWS_SHARED_CREDENTIALS_FILE", "credentials")
        return {
            "env": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN of the environment",
            "shared-credentials-file": f"AWS profile {self._profile!r} in {credentials}",
            "config-file": f"AWS profile {self._profile!r} in {config}",
            "custom-process": f"credential_process of the AWS profile {self._profile!r}",
            "sso": f"AWS sign-in (SSO) of the profile {self._profile!r}",
            "login": f"AWS sign-in (aws login) of the profile {self._profile!r}",
            "container-role": "credentials endpoint of the container (AWS_CONTAINER_CREDENTIALS_*)",
            "iam-role": "instance metadata (IMDS)",
        }.get(self._method, f"AWS profile {self._profile!r} in {config} or {credentials}")

    def _reason(self, exc: Exception) -> str:
        """Return what went wrong, judged by the class of the exception."""
        kind = type(exc).__name__
        if isinstance(exc, ProcessOverdueError):
            return f"it did not end within {self._within_s:.0f} s, or printed without end, and was killed"
        if isinstance(exc, FileNotFoundError):
            return "it does not exist"
        if isinstance(exc, PermissionError):
            return "this user may not open it"
        if isinstance(exc, OSError) and exc.errno is not None:
            return f"it cannot be used ({errno.errorcode.get(exc.errno, exc.errno)})"
        response = getattr(exc, "response", None)
        if isinstance(response, Mapping) and "Error" in response:
            code = str(response["Error"].get("Code", ""))
            operation = getattr(exc, "operation_name", "a call")
            return f"AWS refuses {operation} ({code if code.isidentifier() else 'unreadable code'})"
        if self._process is not None and self._process.returncode:
            return f"it ended with status {self._process.returncode}"
        if kind == "ParamValidationError" and self._token_file:
            return "the token in it is empty or too short"
        if isinstance(exc, EOFError):
            return "it asks for an MFA code, which a daemon cannot type"
        if isinstance(exc, _NOT_A_DOCUMENT) and kind not in EXCEPTIONS:
            return "its output is not the document that the AWS SDK expects"
        reasons = {
            "CredentialRetrievalError": "it gives no usable keys",
            "PartialCredentialsError": "the keys are incomplete",
            "ProfileNotFound": "there is no such profile (AWS_PROFILE)",
            "ConfigParseError": "the file cannot be read as an AWS configuration",
            "RuntimeError": "the keys that it gives have expired",  # Of RefreshableCredentials.
        }
        return reasons.get(kind) or f"{row_of_exception(exc)[2]}"


def _new_session(config: "Config") -> "Session":
    """Return a session of botocore; the deadline of a thread applies to its clients."""
    import botocore.session

    from phasesync.adapters.aws.bounded_http import bound_client
    from phasesync.adapters.aws.sdk import quiet_sdk_loggers

    quiet_sdk_loggers()

    class Bounded(botocore.session.Session):
        def create_client(self, *args: Any, **kwargs: Any) -> Any:
            client = super().create_client(*args, **kwargs)
            service = client.meta.service_model.service_name
            check_endpoint(client.meta.endpoint_url, source=source_of_endpoint(service, os.environ))
            bound_client(client)
            return client

    session = Bounded()
    session.set_default_client_config(config)
    return session


def _frozen_keys(credentials: Any) -> Keys:
    """Return credentials of botocore as they are now. They are refreshed only if they have expired already."""
    for window in ("_advisory_refresh_timeout", "_mandatory_refresh_timeout"):
        if hasattr(credentials, window):
            setattr(credentials, window, 0)
    frozen = cast("Callable[[], Any]", credentials.get_frozen_credentials)()
    expires_at = getattr(credentials, "_expiry_time", None)
    access_key_id, secret = frozen.access_key, frozen.secret_key
    if not (isinstance(access_key_id, str) and access_key_id and isinstance(secret, str) and secret):
        raise CredentialRejectedError("the AWS credentials that were found are incomplete", hint=_HINT)
    if not are_sendable(access_key_id, secret, frozen.token or ""):
        raise CredentialRejectedError("the AWS credentials that were found have characters that AWS never uses")
    return Keys(
        access_key_id=access_key_id,
        secret_access_key=secret,
        session_token=frozen.token or None,
        expires_at=expires_at.astimezone(UTC) if isinstance(expires_at, datetime) else None,
    )


def _file(variable: str, name: str) -> str:
    """Return the path at which the SDK looks for one of AWS's files."""
    return os.environ.get(variable) or f"~/.aws/{name}"


# --- hints: what a person has to do if a provider fails
#
# They follow from the class of the exception and from names in AWS's configuration, never from the text of either.

WEB_IDENTITY: Final = "AssumeRoleWithWebIdentity"

_CLAIM: Final = re.compile(r"[A-Za-z0-9._:/@+=|-]{1,200}")
_SSO: Final = ("SSOError", "TokenRetrievalError", "NoAuthTokenError")
_MFA: Final = ("EOFError", "RefreshWithMFAUnsupportedError")
_DENIED: Final = ("AccessDenied", "AccessDeniedException")
_TOKEN_REFUSED: Final = ("InvalidIdentityToken", "IDPRejectedClaim", "ExpiredTokenException")


def hint_for(exc: Exception, *, profile: str, config: Mapping[str, Any], token_file: str) -> str | None:
    """
    Return what a person can do about a failure of the chain; None if the message names what is wrong already.

    Args:
        exc: what a provider raised.
        profile: that the chain began with.
        config: profile -> its settings, of AWS's configuration files.
        token_file: of a web identity; empty if there is none.
    """
    kinds = [base.__name__ for base in type(exc).__mro__]
    if "LoginError" in kinds:
        return f"sign in: aws login --profile {shlex.quote(_sign_in_profile(profile, config, 'login_session'))}"
    if any(kind in _SSO for kind in kinds):
        return f"sign in: aws sso login --profile {shlex.quote(_sign_in_profile(profile, config, 'sso_'))}"
    if "MissingDependencyException" in kinds:
        return "install it beside phasesync: pip install 'botocore[crt]'; or give it another identity"
    if any(kind in _MFA for kind in kinds):
        return (
            f"a daemon can type no MFA code: take mfa_serial out of the profile {profile} and MFA out of the trust "
            "policy of its role, for an identity that only this host has; or have a credential_process give keys that "
            "were asked for with MFA (aws sts get-session-token --serial-number ARN --token-code CODE)"
        )
    return _hint_for_refused_role(exc, profile, config, token_file)


def _hint_for_refused_role(exc: Exception, profile: str, config: Mapping[str, Any], token_file: str) -> str | None:
    """Return what a person can do if STS refuses a role."""
    response = getattr(exc, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, Mapping) else ""
    operation = getattr(exc, "operation_name", "")
    role = os.environ.get("AWS_ROLE_ARN") if token_file else None
    role = role or _setting(config, profile, "role_arn") or "the role"
    name = role.rpartition("/")[2] if "/" in role else "ROLE"
    command = f"aws iam get-role --role-name {shlex.quote(name)} --query Role.AssumeRolePolicyDocument shows it"
    if operation == WEB_IDENTITY and code in _DENIED:
        return (
            f"the trust policy of {role} has to allow sts:{WEB_IDENTITY} to the provider that made the token, with its "
            f"sub and aud{_token_claims(token_file)}: {command}"
        )
    if operation == WEB_IDENTITY and code in _TOKEN_REFUSED:
        return (
            f"IAM has to know the provider that made the token, and the token has to be "
            f"fresh{_token_claims(token_file)}: aws iam list-open-id-connect-providers lists them"
        )
    if operation == "AssumeRole" and code in _DENIED:
        return (
            f"the trust policy of {role} has to allow the identity that assumes it, which needs sts:AssumeRole on it: "
            f"{command}"
        )
    return None


def _sign_in_profile(profile: str, config: Mapping[str, Any], prefix: str) -> str:
    """Return the profile that has the sign-in settings: this one, or the one that it takes its credentials from."""
    current, visited = profile, {profile}
    while not any(name.startswith(prefix) for name in config.get(current, {})):
        source = _setting(config, current, "source_profile")
        if source is None or source in visited:
            return profile
        visited.add(source)
        current = source
    return current


def _setting(config: Mapping[str, Any], profile: str, name: str) -> str | None:
    value = config.get(profile, {}).get(name)
    return value if isinstance(value, str) and value else None


def _token_claims(token_file: str) -> str:
    """
    Return the issuer, subject and audience of a token, which are no secrets; empty if they cannot be read.

    A token has three parts in base64url, separated by dots (RFC 7519); the third is its signature, which is not read.
    """
    try:
        with open(token_file, encoding="utf-8", errors="replace") as file:
            part = file.read(65_536).split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        values = {name: claims.get(name) for name in ("iss", "sub", "aud")}
    except (OSError, ValueError, IndexError, AttributeError, binascii.Error):
        return ""
    shown = []
    for name, value in values.items():
        text = value[0] if isinstance(value, list) and value else value
        if isinstance(text, str) and _CLAIM.fullmatch(text):
            shown.append(f"{name} {text}")
    return f" (the token has {', '.join(shown)})" if shown else ""
