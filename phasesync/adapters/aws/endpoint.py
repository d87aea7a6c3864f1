"""Which AWS endpoint is in use, and that it is one that secrets may be sent to. Reads no file, makes no call."""

import ipaddress
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from phasesync.errors import SettingsError

ENDPOINT_VARIABLES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_IAM",
    "AWS_ENDPOINT_URL_KMS",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "AWS_ENDPOINT_URL_STS",
)
"""AWS's own variables (AWS SDKs and Tools Reference, service-specific endpoints); the SDK reads them by itself."""


def configured_endpoint(environ: Mapping[str, str]) -> str | None:
    """
    Return the endpoint that AWS_ENDPOINT_URL names, checked; None = AWS's own.

    Raises:
        SettingsError: one of AWS's endpoint variables names an endpoint that is neither https nor loopback.
    """
    for variable in ENDPOINT_VARIABLES:
        if environ.get(variable):
            check_endpoint(environ[variable], source=variable)
    return environ.get("AWS_ENDPOINT_URL") or None


def check_endpoint(url: str, *, source: str) -> None:
    """
    Refuse an endpoint over which secrets would travel in the clear.

    Args:
        url: the endpoint.
        source: where it was set, for the message.

    Raises:
        SettingsError: it is neither https nor loopback. The URL is not repeated whole: it may hold a password.
    """
    parts = _split(url)
    if parts is not None and parts.hostname and parts.scheme == "https":
        return
    if parts is not None and parts.hostname and parts.scheme == "http" and _is_loopback(parts.hostname):
        return
    host = parts.hostname if parts is not None and parts.hostname else "no host"
    raise SettingsError(
        f"the AWS endpoint set by {source} ({host}) is neither https nor on this machine",
        hint=f"set {source} to an https URL, or unset it",
    )


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL, None where it is none."""
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
