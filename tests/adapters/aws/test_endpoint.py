"""Which endpoints secrets may be sent to."""

from __future__ import annotations

import pytest

from phasesync.adapters.aws.endpoint import ENDPOINT_VARIABLES, check_endpoint, configured_endpoint
from phasesync.errors import SettingsError


@pytest.mark.parametrize(
    "url", ["https://vpce-1.example.com", "http://127.0.0.1:4566", "http://localhost:4566", "http://[::1]:4566"]
)
def test_https_and_loopback_are_taken(url: str):
    assert configured_endpoint({"AWS_ENDPOINT_URL": url}) == url


@pytest.mark.parametrize(
    "url",
    ["http://aws.example.com", "http://10.0.0.1:4566", "ftp://127.0.0.1", "127.0.0.1:4566", "https://", "http://[::1"],
)
@pytest.mark.parametrize("variable", ENDPOINT_VARIABLES)
def test_anything_else_is_refused_by_the_name_of_its_variable(url: str, variable: str):
    with pytest.raises(SettingsError, match=variable):
        configured_endpoint({variable: url})


@pytest.mark.parametrize("environ", [{}, {"AWS_ENDPOINT_URL": ""}])
def test_no_endpoint_means_that_of_aws(environ: dict[str, str]):
    assert configured_endpoint(environ) is None


def test_a_password_in_the_url_is_not_repeated():
    with pytest.raises(SettingsError) as caught:
        check_endpoint("http://user:hunter2@aws.example.com", source="AWS_ENDPOINT_URL")
    assert "hunter2" not in str(caught.value) + str(caught.value.hint)
