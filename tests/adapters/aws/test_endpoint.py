"""Which endpoints secrets may be sent to, and that those hold which AWS's own settings name, in AWS's order."""

from __future__ import annotations

import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from phasesync.adapters.aws.endpoint import ENDPOINT_VARIABLES, check_endpoint, is_loopback, shown_endpoint
from phasesync.adapters.aws.sdk import CallLimits
from phasesync.adapters.aws.session import AwsClients
from phasesync.errors import CredentialRejectedError, DestinationUnavailableError, SettingsError
from tests.support.aws import REGION, Aws
from tests.support.aws_builders import INSTANCE, HandClock, access_key_credential, no_sources
from tests.support.raw_http import RawServer, page


@contextmanager
def no_tls() -> Iterator[str]:
    """Yield the https URL of a server that speaks no TLS."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            self.request.recv(1000)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class Host:
    """AWS's settings of a host: variables and a configuration file."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.environ = monkeypatch
        self.file = folder / "config"
        self.made: list[AwsClients] = []
        for name in (*ENDPOINT_VARIABLES, "AWS_PROFILE", "NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(self.file))

    def set(self, **variables: str) -> None:
        """Set variables."""
        for name, value in variables.items():
            self.environ.setenv(name, value)

    def clients(self) -> AwsClients:
        """Return clients as a new process makes them."""
        clock = HandClock(datetime.now(UTC))
        limits = CallLimits(attempts=1)
        self.made.append(AwsClients(source_of=no_sources, clock=clock, instance_id=INSTANCE, limits=limits))
        return self.made[-1]

    def used(self) -> dict[str, str]:
        """Return service -> the endpoint that its client calls."""
        clients, who = self.clients(), access_key_credential()
        made = {
            "secretsmanager": clients.client(who, "secretsmanager", REGION),
            "sts": clients.client(who, "sts", REGION),
            "kms": clients.client(who, "kms", REGION),
            "iam": clients.client(who, "iam", REGION),
            "sns": clients.client(who, "sns", REGION),
            "s3": clients.client(who, "s3", REGION),
        }
        return {service: client.meta.endpoint_url for service, client in made.items()}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host(tmp_path, monkeypatch)
    yield made
    for clients in made.made:
        clients.close()


AWS_OWN = {
    "secretsmanager": "https://secretsmanager.eu-west-1.amazonaws.com",
    "sts": "https://sts.eu-west-1.amazonaws.com",
    "kms": "https://kms.eu-west-1.amazonaws.com",
    "iam": "https://iam.amazonaws.com",
    "sns": "https://sns.eu-west-1.amazonaws.com",
    "s3": "https://s3.eu-west-1.amazonaws.com",
}
IN_FILE = """[default]
services = mine
endpoint_url = https://profile.example.com
[services mine]
secrets_manager =
  endpoint_url = https://section.example.com
"""


def test_nothing_set_means_the_endpoints_of_aws(host: Host) -> None:
    assert host.used() == AWS_OWN
    assert host.clients().endpoints(REGION) == {}


def test_the_order_is_that_of_aws(host: Host) -> None:
    host.file.write_text(IN_FILE)
    assert host.used()["secretsmanager"] == "https://section.example.com"
    assert host.used()["sts"] == "https://profile.example.com"

    host.set(AWS_ENDPOINT_URL="https://all.example.com")
    assert set(host.used().values()) == {"https://all.example.com"}

    host.set(AWS_ENDPOINT_URL_STS="https://sts.example.com", AWS_ENDPOINT_URL_SECRETS_MANAGER="https://sm.example.com")
    assert host.used() == {
        "secretsmanager": "https://sm.example.com",
        "sts": "https://sts.example.com",
        "kms": "https://all.example.com",
        "iam": "https://all.example.com",
        "sns": "https://all.example.com",
        "s3": "https://all.example.com",
    }
    assert host.clients().endpoints(REGION) == host.used()


@pytest.mark.parametrize("where", ["variable", "file"])
def test_all_of_them_can_be_ignored_those_in_the_clear_too(host: Host, where: str) -> None:
    host.file.write_text(IN_FILE)
    host.set(AWS_ENDPOINT_URL="http://aws.example.com")
    if where == "variable":
        host.set(AWS_IGNORE_CONFIGURED_ENDPOINT_URLS="true")
    else:
        host.file.write_text(IN_FILE + "[profile x]\n" + "ignore_configured_endpoint_urls = true\n")
        host.set(AWS_PROFILE="x")
    assert host.used() == AWS_OWN


def test_fips_and_dual_stack_hold_and_are_shown(host: Host) -> None:
    host.set(AWS_USE_FIPS_ENDPOINT="true")
    assert host.used()["secretsmanager"] == "https://secretsmanager-fips.eu-west-1.amazonaws.com"
    assert host.clients().endpoints(REGION)["kms"] == "https://kms-fips.eu-west-1.amazonaws.com"
    host.set(AWS_USE_FIPS_ENDPOINT="false", AWS_USE_DUALSTACK_ENDPOINT="true")
    used = host.used()
    assert used["secretsmanager"] == AWS_OWN["secretsmanager"]  # Dual-stack already; see sdk.py.
    assert {used["sts"], used["kms"]} == {"https://sts.eu-west-1.api.aws", "https://kms.eu-west-1.api.aws"}
    assert used["iam"] == "https://iam.global.api.aws"


@pytest.mark.parametrize(
    "url", ["https://vpce-1.example.com", "http://127.0.0.1:4566", "http://localhost:4566", "http://[::1]:4566"]
)
def test_https_and_loopback_are_taken(url: str) -> None:
    check_endpoint(url, source="AWS_ENDPOINT_URL")


@pytest.mark.parametrize(
    "url",
    ["http://aws.example.com", "http://10.0.0.1:4566", "ftp://127.0.0.1", "127.0.0.1:4566", "https://", "http://[::1"],
)
@pytest.mark.parametrize("variable", ENDPOINT_VARIABLES)
def test_anything_else_is_refused_by_the_name_of_its_variable(host: Host, url: str, variable: str) -> None:
    host.set(**{variable: url})
    with pytest.raises(SettingsError, match=variable):
        host.used()
    with pytest.raises(SettingsError, match=variable):
        host.clients().endpoints(REGION)


@pytest.mark.parametrize("url", ["http://aws.example.com", "nonsense"])
def test_what_stands_in_a_file_is_refused_by_its_name(host: Host, url: str) -> None:
    host.file.write_text(f"[default]\nendpoint_url = {url}\n")
    with pytest.raises(SettingsError, match=r"endpoint_url in .*config"):
        host.used()


def test_a_profile_that_does_not_exist_is_named(host: Host) -> None:
    host.set(AWS_PROFILE="nobody")
    with pytest.raises(CredentialRejectedError, match="AWS_PROFILE"):
        host.clients().endpoints(REGION)


def test_a_password_in_the_url_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        check_endpoint("http://user:hunter2@aws.example.com", source="AWS_ENDPOINT_URL")
    assert "hunter2" not in str(caught.value) + str(caught.value.hint)
    assert shown_endpoint("https://user:hunter2@vpce.example.com:8443/x") == "https://vpce.example.com:8443/x"


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.2/x", True),
        ("http://user@localhost:1", True),
        ("http://[::1]:1", True),
        ("http://169.254.169.254/latest", False),
        ("http://127.0.0.1.example.com", False),
        ("http://localhost.example.com", False),
        ("nonsense", False),
        ("http://127.0.0.1:x", False),
    ],
)
def test_this_machine_is_told_by_its_addresses(url: str, local: bool) -> None:
    assert is_loopback(url) is local


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
def test_what_is_on_this_machine_is_called_through_no_proxy(host: Host, aws: Aws, variable: str) -> None:
    with RawServer(page(200)) as proxy:
        for name in ("NO_PROXY", "no_proxy"):
            host.environ.delenv(name, raising=False)
        host.set(**{variable: proxy.url, "AWS_ENDPOINT_URL": aws.server.url})
        client: Any = host.clients().client(access_key_credential(), "secretsmanager", REGION)
        client.create_secret(Name="shop", SecretString="value")
        assert proxy.requests == 0
    assert aws.secret_text("shop") == "value"


def test_what_is_elsewhere_is_called_through_the_proxy(host: Host) -> None:
    with RawServer(page(403)) as proxy:
        host.set(HTTPS_PROXY=proxy.url, https_proxy=proxy.url)
        with pytest.raises(DestinationUnavailableError, match="proxy"):
            host.clients().fetch_identity(access_key_credential())
        assert proxy.requests > 0


@pytest.mark.parametrize("bundle", [None, "/nonexistent/ca.pem"])
def test_where_tls_fails_the_settings_of_the_ca_are_named(host: Host, bundle: str | None) -> None:
    with no_tls() as url:
        host.set(AWS_ENDPOINT_URL=url)
        if bundle is not None:
            host.set(AWS_CA_BUNDLE=bundle)
        with pytest.raises(DestinationUnavailableError, match="TLS failed") as caught:
            host.clients().fetch_identity(access_key_credential())
    for name in ("AWS_CA_BUNDLE", "ca_bundle", "REQUESTS_CA_BUNDLE"):
        assert name in str(caught.value.hint)
    assert ssl.OPENSSL_VERSION not in str(caught.value)
