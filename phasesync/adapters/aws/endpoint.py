"""
Checks that secrets may be sent to an AWS endpoint, and names where it is set. Reads no file, makes no call.

The SDK resolves an endpoint itself, in AWS's order (AWS SDKs and Tools Reference, service-specific endpoints):
AWS_ENDPOINT_URL_<SERVICE>, AWS_ENDPOINT_URL, the `services` section of the profile, its `endpoint_url`; none of them
if AWS_IGNORE_CONFIGURED_ENDPOINT_URLS or `ignore_configured_endpoint_urls` is set. The result is checked here.
"""

import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from phasesync.errors import SettingsError

_VARIABLE_FOR_ALL: Final = "AWS_ENDPOINT_URL"
_VARIABLE_OF_SERVICE: Final = {
    "iam": "AWS_ENDPOINT_URL_IAM",
    "kms": "AWS_ENDPOINT_URL_KMS",
    "s3": "AWS_ENDPOINT_URL_S3",
    "secretsmanager": "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "sns": "AWS_ENDPOINT_URL_SNS",
    "sts": "AWS_ENDPOINT_URL_STS",
}
"""Service -> its variable (AWS SDKs and Tools Reference, identifiers for service-specific endpoints)."""

ENDPOINT_VARIABLES: Final = (_VARIABLE_FOR_ALL, *_VARIABLE_OF_SERVICE.values())
"""All variables that may set the endpoint of a service that is called here."""


def source_of_endpoint(service: str, environ: Mapping[str, str]) -> str:
    """Return where the endpoint of a service is set, for messages: its variable, or the configuration file."""
    for variable in (_VARIABLE_OF_SERVICE.get(service, ""), _VARIABLE_FOR_ALL):
        if environ.get(variable):
            return variable
    return f"endpoint_url in {environ.get('AWS_CONFIG_FILE') or '~/.aws/config'}"


def check_endpoint(url: str, *, source: str) -> None:
    """
    Refuse an endpoint that would receive secrets unencrypted.

    Args:
        url: the endpoint.
        source: where it was set, for the message.

    Raises:
        SettingsError: it is neither https nor loopback. The URL is not repeated whole: it may hold a password.
    """
    parts = _split(url)
    if parts is not None and parts.hostname and parts.scheme == "https":
        return
    if parts is not None and parts.scheme == "http" and is_loopback(url):
        return
    host = parts.hostname if parts is not None and parts.hostname else "no host"
    raise SettingsError(
        f"the AWS endpoint set by {source} ({host}) is neither https nor on this machine",
        hint=f"set {source.partition(' in ')[0]} to an https URL, or remove it",
    )


def unreadable_endpoint(source: str) -> SettingsError:
    """Return the error for an endpoint that is not a URL; its text is not repeated."""
    return SettingsError(
        f"the AWS endpoint set by {source} is not a URL",
        hint=f"set {source.partition(' in ')[0]} to a URL with its scheme, such as https://vpce.example.com",
    )


def shown_endpoint(url: str) -> str:
    """Return an endpoint without what may be a user name and password."""
    parts = _split(url)
    if parts is None or not parts.hostname:
        return "unreadable"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def is_loopback(url: str) -> bool:
    """Return whether a URL leads to this machine."""
    parts = _split(url)
    host = parts.hostname if parts is not None else None
    if host in (None, "localhost"):
        return host is not None
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL; None if it is not a URL."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # Raises for a port that is no number.
    except ValueError:
        return None
    return parts
