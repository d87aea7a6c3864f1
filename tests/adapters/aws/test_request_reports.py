"""Each request to AWS is reported once, with a word of ours for its result, and AWS's clock with it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from email.utils import formatdate
from typing import Any

import pytest

from phasesync.adapters.aws import error_codes
from phasesync.adapters.aws.client import AwsClient
from phasesync.adapters.aws.request_reports import RESULTS, result_of
from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.clock import SystemClock
from phasesync.emulator import Answer
from phasesync.errors import PhasesyncError
from tests.support.aws import REGION, Aws
from tests.support.aws_builders import INSTANCE, access_key_credential, no_sources
from tests.support.raw_http import RawServer, page

Report = tuple[str, str, str]


class Reports:
    """What was reported."""

    def __init__(self) -> None:
        self.requests: list[Report] = []
        self.seconds: list[float] = []
        self.ahead_s: list[float] = []

    def request(self, service: str, operation: str, result: str, seconds: float) -> None:
        self.requests.append((service, operation, result))
        self.seconds.append(seconds)

    def of(self, operation: str) -> list[str]:
        """Return the results of an operation."""
        return [result for _, name, result in self.requests if name == operation]


@pytest.fixture
def reports() -> Reports:
    return Reports()


def clients_at(url: str, reports: Reports) -> AwsClients:
    clients = AwsClients(source_of=no_sources, clock=SystemClock(), instance_id=INSTANCE, endpoint_url=url)
    clients.reports.request = reports.request
    clients.reports.clock = reports.ahead_s.append
    return clients


@pytest.fixture
def client(aws: Aws, reports: Reports) -> Iterator[AwsClient]:
    clients = clients_at(aws.server.url, reports)
    yield AwsClient(clients, access_key_credential(), "secretsmanager", REGION)
    clients.close()


def call(client: AwsClient, operation: str = "DescribeSecret", **arguments: Any) -> None:
    with suppress(PhasesyncError):
        client.call(operation, **(arguments or {"SecretId": "shop/web"}))


def test_what_is_reported_is_what_arrived(aws: Aws, client: AwsClient, reports: Reports) -> None:
    call(client, "CreateSecret", Name="shop/web", SecretString="{}")
    call(client)
    aws.server.fail("DescribeSecret", Answer("ThrottlingException"), times=2)
    call(client)
    client.account_id()

    arrived = Counter((one.service, one.name) for one in aws.server.operations)
    assert Counter((service, name) for service, name, _ in reports.requests) == arrived
    assert reports.of("DescribeSecret") == ["ok", "throttled", "throttled", "ok"], "retries of the SDK count too"
    assert all(0 < seconds < 30 for seconds in reports.seconds)


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (Answer("ResourceNotFoundException"), "not-found"),
        (Answer("AccessDeniedException"), "denied"),
        (Answer("ExpiredTokenException"), "credential"),
        (Answer("InvalidParameterException"), "rejected"),
        (Answer("LimitExceededException"), "quota"),
        (Answer("InvalidRequestException"), "conflict"),
        (Answer("InternalServiceError", status=500), "unavailable"),
        (Answer("canary-Code-that-no-table-knows"), "rejected"),
        (Answer(None), "unknown"),
        (Answer("garbled", status=200, raw=b'{"ARN": "arn', cut=True), "unknown"),
    ],
)
def test_a_result_is_a_word_of_ours(aws: Aws, client: AwsClient, reports: Reports, answer: Answer, result: str) -> None:
    aws.server.fail("DescribeSecret", answer, times=None)

    call(client)

    assert set(reports.of("DescribeSecret")) == {result}
    assert result in RESULTS


def test_a_request_that_reached_nobody_is_not_unknown(reports: Reports) -> None:
    clients = clients_at("http://127.0.0.1:1", reports)
    call(AwsClient(clients, access_key_credential(account=None), "secretsmanager", REGION))
    clients.close()

    assert set(reports.of("DescribeSecret")) == {"unavailable"} and reports.ahead_s == []


def test_every_code_and_exception_of_the_table_has_a_word() -> None:
    for code in error_codes.CODES:
        assert result_of({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}, None) in RESULTS
    for name in error_codes.EXCEPTIONS:
        assert result_of(None, type(name, (Exception,), {})()) in RESULTS


# --- the clock


def test_the_clock_of_aws_is_compared_with_ours(client: AwsClient, reports: Reports) -> None:
    call(client)
    assert reports.ahead_s and abs(reports.ahead_s[-1]) < 2

    for ahead_s in (3600, -3600):
        date = formatdate(time.time() - ahead_s, usegmt=True)
        headers = {"Content_Type": "application/x-amz-json-1.1", "x_amzn_RequestId": "r-1", "Date": date}
        with RawServer(page(200, '{"ARN": "a", "Name": "n"}', **headers)) as server:
            clients = clients_at(server.url, reports)
            call(AwsClient(clients, access_key_credential(), "secretsmanager", REGION))
            clients.close()
        assert abs(reports.ahead_s[-1] - ahead_s) < 2


@pytest.mark.parametrize("date", ["", "canary", "Sun, 99 Foo 2026 99:99:99 GMT", "Thu, 01 Jan 99999 00:00:00 GMT", "0"])
def test_a_date_that_is_none_is_ignored(reports: Reports, date: str) -> None:
    headers = {"Content_Type": "application/x-amz-json-1.1", "x_amzn_RequestId": "r-1", "Date": date}
    with RawServer(page(200, '{"ARN": "a", "Name": "n"}', **headers)) as server:
        clients = clients_at(server.url, reports)
        call(AwsClient(clients, access_key_credential(), "secretsmanager", REGION))
        clients.close()

    assert reports.of("DescribeSecret") == ["ok"] and reports.ahead_s == []


def test_the_clock_of_a_proxy_is_not_that_of_aws(reports: Reports) -> None:
    with RawServer(page(403, Date=formatdate(time.time() - 7200, usegmt=True))) as server:
        clients = clients_at(server.url, reports)
        call(AwsClient(clients, access_key_credential(), "secretsmanager", REGION))
        clients.close()

    assert set(reports.of("DescribeSecret")) == {"unavailable"} and reports.ahead_s == []


def test_a_wait_for_the_rate_limiter_is_reported_with_its_group(aws: Aws, reports: Reports) -> None:
    clients = clients_at(aws.server.url, reports)
    waits: list[tuple[str, float]] = []
    clients.rate_limiter.waited = lambda group, seconds: waits.append((group, seconds))
    client = AwsClient(clients, access_key_credential(), "secretsmanager", REGION)
    clients.rate_limiter.share_among(100)  # one of 100 processes: less than one call in a second

    for _ in range(3):
        call(client, "ListSecrets", MaxResults=1)
    clients.close()

    assert {group for group, _ in waits} == {"secretsmanager:list"}
    assert sum(seconds for _, seconds in waits) > 1
