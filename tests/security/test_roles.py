"""Roles: the External ID that opens them, who may assume them through whom, and sessions that end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from phasesync.adapters.aws.credential_tester import AwsCredentialTester
from phasesync.adapters.aws.session import AwsClients
from phasesync.core.credential import Credential
from phasesync.core.iam.role_setup import trust_policy
from phasesync.core.iam.sync_policy import starter_sync_policy
from phasesync.errors import CredentialRejectedError, PermissionDeniedError
from phasesync.ports.destination import Destination
from tests.security.conftest import add_trusting_role, credential_of
from tests.support.accounts import REGION, Account, Key, allow
from tests.support.aws_builders import EXTERNAL_ID, ambient_credential, payload, role_credential, token
from tests.support.waiting import wait_until

OpenAs = Callable[..., Destination]


@pytest.fixture
def tester(clients: AwsClients) -> AwsCredentialTester:
    """What `credentials test` asks."""
    return AwsCredentialTester(clients)


def write(destination: Destination, name: str = "shop/web") -> None:
    destination.create(name, payload(), token=token(1), description=None, kms_key=None, tags={})


# --- External IDs


def test_the_right_external_id_opens_the_role(
    host: Key, target: Account, open_as: OpenAs, tester: AwsCredentialTester
) -> None:
    credential = add_trusting_role(target, host.arn)

    report = tester.test(credential)
    write(open_as(credential))

    assert (report.identity.account, report.findings, report.open_without_external_id) == (target.number, (), False)
    assert report.identity.arn.startswith(f"arn:aws:sts::{target.number}:assumed-role/phasesync/phasesync-")
    assert report.base is not None and report.base.arn == host.arn
    assert target.secret_names() == ["shop/web"]


@pytest.mark.parametrize("external_id", ["external-id-of-another", EXTERNAL_ID.upper(), None])
def test_any_other_external_id_is_refused(
    host: Key, target: Account, open_as: OpenAs, tester: AwsCredentialTester, external_id: str | None
) -> None:
    credential = replace(add_trusting_role(target, host.arn), external_id=external_id)

    with pytest.raises(CredentialRejectedError) as caught:
        tester.test(credential)
    with pytest.raises(CredentialRejectedError):
        write(open_as(credential))

    assert caught.value.code == "AccessDenied"
    assert ("asks for an External ID" if external_id is None else "another External ID") in caught.value.message
    assert target.secret_names() == []


def test_a_role_that_asks_for_no_external_id_works_and_is_a_finding(
    host: Key, target: Account, open_as: OpenAs, tester: AwsCredentialTester
) -> None:
    credential = add_trusting_role(target, host.arn, external_id=None)

    report = tester.test(credential)
    write(open_as(credential))

    assert report.open_without_external_id is True
    assert "can also be assumed without the External ID" in report.findings[0]
    assert target.secret_names() == ["shop/web"]


def test_the_line_of_the_finding_closes_the_role(host: Key, target: Account, tester: AwsCredentialTester) -> None:
    credential = add_trusting_role(target, host.arn, external_id=None)

    target.type_line(tester.test(credential).findings[0].partition("Correct it with: ")[2].partition(" (this")[0])

    assert tester.test(credential).findings == ()
    with pytest.raises(CredentialRejectedError):
        tester.test(replace(credential, external_id="external-id-of-another"))


def test_a_role_that_lets_in_whoever_has_no_external_id_is_told_apart(
    host: Key, target: Account, tester: AwsCredentialTester
) -> None:
    trust = trust_policy(principal_arn=host.arn, external_id=None)
    trust["Statement"][0]["Condition"] = {"Null": {"sts:ExternalId": "true"}}
    credential = role_credential(target.add_role("phasesync", trust))

    with pytest.raises(CredentialRejectedError, match="lets us in without an External ID but not with the one"):
        tester.test(credential)


def test_the_hint_of_a_refusal_mends_the_role(host: Key, target: Account, tester: AwsCredentialTester) -> None:
    credential = add_trusting_role(target, host.arn, external_id="external-id-of-another")
    with pytest.raises(CredentialRejectedError) as caught:
        tester.test(credential)

    target.type_line(str(caught.value.hint).partition(" (this replaces")[0])

    assert tester.test(credential).findings == ()


# --- who may assume it


def test_a_role_opens_to_whom_its_trust_policy_names(
    home: Account, host: Key, target: Account, tester: AwsCredentialTester
) -> None:
    somebody_else = home.add_user("somebody-else", allow("sts:AssumeRole"))
    credential = add_trusting_role(target, somebody_else.arn)

    with pytest.raises(CredentialRejectedError, match=f"{host.arn} cannot assume"):
        tester.test(credential)


def test_a_role_that_trusts_an_account_opens_to_those_in_it(
    home: Account, host: Key, target: Account, tester: AwsCredentialTester
) -> None:
    credential = add_trusting_role(target, f"arn:aws:iam::{home.number}:root")

    assert tester.test(credential).identity.account == target.number


def test_trust_is_not_enough_where_the_identity_may_not_assume_roles(
    home: Account, host: Key, target: Account, tester: AwsCredentialTester
) -> None:
    credential = add_trusting_role(target, host.arn)
    home.set_user_policies("host", allow("s3:ListAllMyBuckets"))

    with pytest.raises(CredentialRejectedError, match="lacks sts:AssumeRole"):
        tester.test(credential)


def test_a_role_that_is_not_there_is_refused_as_one_that_does_not_trust_us(
    host: Key, target: Account, tester: AwsCredentialTester
) -> None:
    credential = role_credential(f"arn:aws:iam::{target.number}:role/phasesync")

    with pytest.raises(CredentialRejectedError, match="the role does not exist"):
        tester.test(credential)


def test_the_default_chain_itself_may_write_nothing(host: Key, home: Account, open_as: OpenAs) -> None:
    """So that the other tests show what the role may do, and not what its user may."""
    with pytest.raises(PermissionDeniedError):
        write(open_as(ambient_credential()))
    assert home.secret_names() == []


# --- chains


def test_a_role_is_assumed_with_the_key_of_its_source(
    host: Key, home: Account, target: Account, sources: dict[str, Credential], open_as: OpenAs
) -> None:
    courier = home.add_user("courier", allow("sts:AssumeRole"))
    sources["courier"] = replace(credential_of(courier), id="courier", name="courier")
    credential = add_trusting_role(target, courier.arn)

    write(open_as(replace(credential, source_id="courier")))

    assert target.secret_names() == ["shop/web"]
    # The default chain is someone else, so it was the source's key.
    with pytest.raises(CredentialRejectedError):
        write(open_as(replace(credential, id="without-source")), "shop/other")


def test_a_role_is_assumed_by_the_role_of_its_source(
    host: Key,
    home: Account,
    target: Account,
    sources: dict[str, Credential],
    open_as: OpenAs,
    tester: AwsCredentialTester,
) -> None:
    hub_trust = trust_policy(principal_arn=host.arn, external_id="of-the-hub")
    hub = home.add_role("hub", hub_trust, allow("sts:AssumeRole"))
    sources["hub"] = role_credential(hub, id="hub", name="hub", external_id="of-the-hub")
    credential = replace(add_trusting_role(target, hub), source_id="hub")

    report = tester.test(credential)
    write(open_as(credential))

    assert report.base is not None and report.base.arn.startswith(f"arn:aws:sts::{home.number}:assumed-role/hub/")
    assert (report.findings, target.secret_names()) == ((), ["shop/web"])


def test_a_chain_ends_where_a_link_refuses(
    host: Key, home: Account, target: Account, sources: dict[str, Credential], open_as: OpenAs
) -> None:
    hub = home.add_role("hub", trust_policy(principal_arn=host.arn, external_id="of-the-hub"), allow("sts:AssumeRole"))
    sources["hub"] = role_credential(hub, id="hub", name="hub", external_id="not-of-the-hub")
    credential = replace(add_trusting_role(target, hub), source_id="hub")

    with pytest.raises(CredentialRejectedError, match="sts:AssumeRole"):
        write(open_as(credential))

    assert target.secret_names() == []


# --- sessions that end


def test_a_session_that_aws_has_ended_is_opened_anew_within_the_call(
    host: Key, target: Account, clients: AwsClients, open_as: OpenAs
) -> None:
    credential = add_trusting_role(target, host.arn)
    shortened = _shorten_sessions(clients, credential)
    destination = open_as(credential)
    assert destination.observe("shop/web") is None
    session: Any = clients.client(credential, "secretsmanager", REGION)

    def ended() -> bool:
        try:
            session.describe_secret(SecretId="shop/web")
        except ClientError as error:
            return bool(error.response["Error"]["Code"] == "ExpiredTokenException")
        raise AssertionError("nothing is there that could be found")

    wait_until(ended, what="the end of the session")
    shortened.clear()
    write(destination)

    assert target.secret_names() == ["shop/web"]


def test_an_ended_session_of_the_default_chain_is_a_rejected_credential(
    host: Key,
    home: Account,
    target: Account,
    clients: AwsClients,
    open_as: OpenAs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where someone pasted the variables of a session; no one but them can renew it."""
    role = home.add_role(
        "shell", trust_policy(principal_arn=host.arn, external_id=None), starter_sync_policy(region=REGION)
    )
    session = home.assume(role, by=host, lifetime_s=1)
    for name, value in session.environ().items():
        monkeypatch.setenv(name, value)
    destination = open_as(ambient_credential())
    codes: list[str | None] = []

    def ended() -> bool:
        try:
            destination.observe("shop/web")
        except CredentialRejectedError as error:
            codes.append(error.code)
        return bool(codes)

    wait_until(ended, what="the end of the session")

    assert codes == ["ExpiredTokenException"]
    with pytest.raises(CredentialRejectedError) as caught:
        clients.identity_of(ambient_credential())
    assert caught.value.code == "ExpiredToken"


def _shorten_sessions(clients: AwsClients, credential: Credential) -> list[str]:
    """Have the sessions of a role last a second, which AWS would not allow, for as long as what is returned is full."""
    lifetime = ["1"]

    def shorten(params: dict[str, Any], **_: object) -> None:
        if lifetime:
            params["body"]["DurationSeconds"] = lifetime[0]

    base: Any = clients.call_as_base(credential, lambda sts: sts)
    base.meta.events.register("before-call.sts.AssumeRole", shorten)
    return lifetime
