"""One emulator for the tests of this folder, empty at the start of each; a test moves its clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from botocore.exceptions import ClientError

from phasesync.emulator import AwsEmulator, EmulatorClock

REGION = "eu-west-1"
OTHER_REGION = "eu-central-1"
ACCOUNT = "123456789012"
OTHER_ACCOUNT = "222222222222"
ACCESS_KEY = "AKIATESTTESTTESTTEST"

Boto = Callable[..., Any]
Test = TypeVar("Test", bound=Callable[..., Any])


@pytest.fixture(scope="package")
def running_emulator() -> Iterator[AwsEmulator]:
    with AwsEmulator(clock=EmulatorClock(frozen=True), throttling=False) as aws:
        yield aws


@pytest.fixture(scope="package")
def clients(running_emulator: AwsEmulator) -> Iterator[Boto]:
    """Makes plain clients, one for each set of arguments."""
    import boto3.session
    from botocore.config import Config

    session = boto3.session.Session()
    made: dict[Any, Any] = {}

    def client(service: str = "secretsmanager", *, region: str = REGION, **keys: Any) -> Any:
        known = (service, region, tuple(sorted(keys.items())))
        if known not in made:
            # What botocore itself would refuse shall reach the server.
            config = Config(
                retries={"total_max_attempts": 1},
                read_timeout=keys.pop("read_timeout", 10),
                parameter_validation=False,
            )
            keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": "test", **keys}
            make: Any = session.client
            made[known] = make(service, region_name=region, endpoint_url=running_emulator.url, config=config, **keys)
        return made[known]

    yield client
    for one in made.values():
        one.close()


@pytest.fixture
def aws(running_emulator: AwsEmulator) -> AwsEmulator:
    running_emulator.reset()
    return running_emulator


@pytest.fixture
def boto(aws: AwsEmulator, clients: Boto) -> Boto:
    return clients


@pytest.fixture
def sm(boto: Boto) -> Any:
    return boto()


@pytest.fixture
def iam(boto: Boto) -> Any:
    return boto("iam")


def code_of(call: Callable[[], Any]) -> str:
    """Return the code that a call is refused with; it fails the test when the call is not refused."""
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def text_of(call: Callable[[], Any]) -> str:
    """Return the text that a call is refused with."""
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Message"])


def refusal_of(call: Callable[[], Any]) -> tuple[str, int, str]:
    """Return code, HTTP status and text that a call is refused with."""
    with pytest.raises(ClientError) as caught:
        call()
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Message"]


def refuses(*rules: str) -> Callable[[Test], Test]:
    """Mark a test that shows a rule at work; `test_rules.py` asks that every rule has one."""
    return _marks("refuses", rules)


def passes(*rules: str) -> Callable[[Test], Test]:
    """Mark a test that shows what a rule leaves alone."""
    return _marks("passes", rules)


def _marks(kind: str, rules: tuple[str, ...]) -> Callable[[Test], Test]:
    def mark(test: Test) -> Test:
        marked: Any = test
        marked.rules = {*getattr(test, "rules", ()), *((rule, kind) for rule in rules)}
        return test

    return mark
