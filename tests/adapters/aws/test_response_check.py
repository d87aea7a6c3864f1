"""Answers that come from something on the way to AWS, that come in half, that drip, or that never end."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from phasesync.adapters.aws import bounded_http
from phasesync.adapters.aws.sdk import CallLimits
from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.aws_secrets_manager.destination import AwsSecretsManager
from phasesync.core.remote import CallerIdentity
from phasesync.errors import (
    AccountMismatchError,
    DestinationRejectedError,
    DestinationUnavailableError,
    OutcomeUnknownError,
    PhasesyncError,
    ThrottledError,
)
from tests.support.aws import REGION, environ_of, move_to
from tests.support.aws_builders import INSTANCE, HandClock, access_key_credential, no_sources, payload
from tests.support.raw_http import RawServer, Script, page

ARN = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:shop-AbCdEf"


@pytest.fixture
def open_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[RawServer, AwsSecretsManager]]]:
    made: list[Any] = []

    def start(script: Script, **limits: int) -> tuple[RawServer, AwsSecretsManager]:
        server = RawServer(script).__enter__()
        move_to(environ_of(server.url), monkeypatch)
        clients = AwsClients(
            source_of=no_sources,
            clock=HandClock(datetime.now(UTC)),
            instance_id=INSTANCE,
            endpoint_url=server.url,
            limits=CallLimits(**{"attempts": 1, **limits}),
        )
        made.append((server, clients))
        return server, AwsSecretsManager(clients, access_key_credential(), REGION, instance_id=INSTANCE)

    yield start
    for server, clients in made:
        clients.close()
        server.__exit__(None, None, None)


def read(destination: AwsSecretsManager) -> PhasesyncError:
    with pytest.raises(PhasesyncError) as caught:
        destination.observe("shop")
    return caught.value


def write(destination: AwsSecretsManager) -> PhasesyncError:
    with pytest.raises(PhasesyncError) as caught:
        destination.put_value(ARN, payload(), token="t" * 36)
    return caught.value


@pytest.mark.parametrize("status", [200, 301, 302, 307, 308, 400, 401, 403, 404, 407, 408, 421, 425])
def test_a_page_of_something_on_the_way_is_no_verdict_of_aws(status: int, open_at: Any):
    _, destination = open_at(page(status, Location="https://portal.example/login"))
    error = read(destination)
    assert type(error) is DestinationUnavailableError
    assert "words of it" not in str(vars(error))


@pytest.mark.parametrize("body", ["<html><body>words of it</body></html>", "<a/>", "words of it", "{}"])
def test_a_page_in_place_of_an_identity_is_something_on_the_way(body: str, open_at: Any):
    with pytest.raises(DestinationUnavailableError, match="not AWS's") as caught:
        open_at(page(200, body, Content_Type="text/html"))[1].account_id()
    assert "words of it" not in str(vars(caught.value))


@pytest.mark.parametrize("status", [500, 503, 418, 511])
def test_a_page_with_any_other_error_is_none_either(status: int, open_at: Any):
    assert type(read(open_at(page(status))[1])) is DestinationUnavailableError


def test_too_many_requests_is_heeded_whoever_says_it(open_at: Any):
    error = read(open_at(page(429, Retry_After="7"))[1])
    assert isinstance(error, ThrottledError)
    assert error.retry_after is not None


@pytest.mark.parametrize("status", [301, 302, 307, 407, 421, 425])
def test_a_write_that_was_not_passed_on_has_not_landed(status: int, open_at: Any):
    assert type(write(open_at(page(status))[1])) is DestinationUnavailableError


@pytest.mark.parametrize("status", [200, 403, 404, 408, 502, 504])
def test_a_write_that_may_have_been_passed_on_may_have_landed(status: int, open_at: Any):
    assert type(write(open_at(page(status))[1])) is OutcomeUnknownError


@pytest.mark.parametrize("status", [302, 407, 408, 425])
def test_a_status_that_no_service_uses_outweighs_a_code(status: int, open_at: Any):
    body = '{"__type":"AccessDeniedException","message":"no"}'
    script = page(status, body, Content_Type="application/x-amz-json-1.1", x_amzn_RequestId="r-1")
    assert type(read(open_at(script)[1])) is DestinationUnavailableError


def test_a_refusal_of_aws_that_the_table_does_not_know_stays_one(open_at: Any):
    body = '{"__type":"BrandNewException","message":"no"}'
    script = page(400, body, Content_Type="application/x-amz-json-1.1", x_amzn_RequestId="r-1")
    error = read(open_at(script)[1])
    assert type(error) is DestinationRejectedError
    assert (error.code, error.request_id) == ("BrandNewException", "r-1")


@pytest.mark.parametrize("body", ['{"SecretList": [', "", "[]", "null", '"text"', "\x00\xff", "<html></html>"])
def test_a_list_that_is_no_document_is_no_empty_list(body: str, open_at: Any):
    script = page(200, body, Content_Type="application/x-amz-json-1.1", x_amzn_RequestId="r-1")
    _, destination = open_at(script)
    with pytest.raises(DestinationUnavailableError):
        destination.list_names()


def test_a_document_that_is_shorter_than_it_says_is_half_an_answer(open_at: Any):
    script = page(
        200, '{"SecretList":[]}', Content_Type="application/x-amz-json-1.1", x_amzn_RequestId="r", Content_Length="99"
    )

    def cut() -> Iterator[bytes]:
        yield next(script())
        raise OSError

    _, destination = open_at(cut, read_timeout_s=1)
    with pytest.raises(DestinationUnavailableError):
        destination.list_names()


def drip(head: bytes, piece: bytes = b" ", every_s: float = 0.05) -> Script:
    def pieces() -> Iterator[bytes]:
        yield head
        while True:
            time.sleep(every_s)
            yield piece

    return pieces


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 9999\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
        (b"HTTP/1.1 200 OK\r\nX-Header: ", b"a"),
        (b"HTTP/1.1 2", b"0"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["body", "chunks", "size of a chunk", "header", "status line", "continue"],
)
def test_an_answer_that_drips_ends_with_the_deadline_of_the_call(
    head: bytes, piece: bytes, open_at: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(CallLimits, "call_s", 0.4)
    _, destination = open_at(drip(head, piece), attempts=3)
    began = time.monotonic()
    error = read(destination)
    assert type(error) is DestinationUnavailableError
    assert time.monotonic() - began < 3


def test_a_write_whose_answer_drips_may_have_landed(open_at: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(CallLimits, "call_s", 0.3)
    _, destination = open_at(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"), attempts=3)
    assert type(write(destination)) is OutcomeUnknownError


@pytest.mark.parametrize("encoding", ["Content-Length: 500000000", "Transfer-Encoding: chunked"])
def test_an_answer_without_end_takes_no_memory(encoding: str, open_at: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounded_http, "MAX_RESPONSE_BYTES", 256 * 1024)
    chunk = b"a" * 65_536
    piece = b"10000\r\n" + chunk + b"\r\n" if "chunked" in encoding else chunk

    def flood() -> Iterator[bytes]:
        yield f"HTTP/1.1 200 OK\r\n{encoding}\r\n\r\n".encode()
        while True:
            yield piece

    _, destination = open_at(flood)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = read(destination)
    assert type(error) is DestinationUnavailableError
    assert "larger" in error.message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 32 * 1024


def test_what_is_about_another_account_is_not_taken_for_ours(open_at: Any, monkeypatch: pytest.MonkeyPatch):
    """Where STS and Secrets Manager do not lead to the same account, as behind an endpoint that someone redirected."""
    arn = f"arn:aws:secretsmanager:{REGION}:999999999999:secret:shop-AbCdEf"
    body = f'{{"ARN":"{arn}","Name":"shop","VersionId":"v","SecretList":[{{"ARN":"{arn}","Name":"shop"}}]}}'
    _, destination = open_at(page(200, body, Content_Type="application/x-amz-json-1.1", x_amzn_RequestId="r-1"))
    ours = CallerIdentity(account="123456789012", arn="arn:aws:iam::123456789012:user/u")
    monkeypatch.setattr(AwsClients, "identity_with", lambda *_: ours)
    assert destination.account_id() == "123456789012"
    for ask in (lambda: destination.observe("shop"), destination.list_names, lambda: list(destination.sweep("i"))):
        with pytest.raises(AccountMismatchError, match="999999999999"):
            ask()
    with pytest.raises(AccountMismatchError, match="999999999999"):
        destination.put_value(arn, payload(), token="t" * 36)
