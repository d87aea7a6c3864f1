"""Hints for a person if the default chain fails."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
from botocore.config import Config

from phasesync.adapters.aws.ambient import find_keys, hint_for
from phasesync.adapters.aws.error_codes import EXCEPTIONS, row_of_exception
from phasesync.demo.canary import CANARY_VALUE
from phasesync.errors import CredentialRejectedError
from tests.support.aws import REGION, Aws
from tests.support.raw_http import RawServer, page

PROFILES = {
    "deploy": {"role_arn": "arn:aws:iam::111122223333:role/deploy", "source_profile": "people"},
    "people": {"sso_session": "corp", "sso_account_id": "111122223333"},
    "console": {"login_session": "arn:aws:iam::111122223333:user/me"},
    "loop": {"source_profile": "loop"},
}


def exception_of(name: str) -> Exception:
    """Return an exception of botocore, whatever its arguments are called."""
    error: Exception = getattr(botocore.exceptions, name).__new__(getattr(botocore.exceptions, name))
    return error


def hint_of(exc: Exception, profile: str = "default", token_file: str = "") -> str | None:
    return hint_for(exc, profile=profile, config=PROFILES, token_file=token_file)


@pytest.mark.parametrize(
    ("error", "profile", "line"),
    [
        ("UnauthorizedSSOTokenError", "people", "aws sso login --profile people"),
        ("SSOTokenLoadError", "deploy", "aws sso login --profile people"),
        ("TokenRetrievalError", "nothing", "aws sso login --profile nothing"),
        ("SSOError", "loop", "aws sso login --profile loop"),
        ("LoginRefreshRequired", "console", "aws login --profile console"),
        ("LoginTokenLoadError", "console", "aws login --profile console"),
        ("MissingDependencyException", "console", "pip install 'botocore[crt]'"),
        ("RefreshWithMFAUnsupportedError", "deploy", "mfa_serial out of the profile deploy"),
    ],
)
def test_who_has_to_sign_in_is_told_with_what(error: str, profile: str, line: str) -> None:
    assert line in str(hint_of(exception_of(error), profile))


def test_every_exception_of_a_sign_in_is_known() -> None:
    for name, kind in vars(botocore.exceptions).items():
        if (
            isinstance(kind, type)
            and issubclass(kind, Exception)
            and name.startswith(("SSO", "Login", "Token", "Unau"))
        ):
            assert row_of_exception(exception_of(name))[0] is CredentialRejectedError, name
    assert EXCEPTIONS["MissingDependencyException"][0] is CredentialRejectedError


def token(**claims: Any) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJSUzI1NiJ9.{body}.{CANARY_VALUE}"


@pytest.fixture
def web_identity(tmp_path: Path, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    path = tmp_path / "token"
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(path))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/teams/pod")
    return path


def refused(code: str) -> CredentialRejectedError:
    """Return what the chain fails with where STS refuses the token, in the form of STS's errors."""
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>Not authorized</Message></Error>"
    answer = f"<ErrorResponse>{error}<RequestId>r-1</RequestId></ErrorResponse>"
    with RawServer(page(403, answer)) as sts, pytest.MonkeyPatch.context() as environ:
        environ.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        with pytest.raises(CredentialRejectedError) as caught:
            find_keys(REGION, Config())
    assert CANARY_VALUE not in str(vars(caught.value))
    return caught.value


def test_a_refused_web_identity_names_its_action_and_the_trust_policy(web_identity: Path) -> None:
    web_identity.write_text(token(iss="https://oidc.example.com/id/X", sub="system:serviceaccount:ns:app", aud=["sts"]))
    error = refused("AccessDenied")
    assert "AWS refuses AssumeRoleWithWebIdentity (AccessDenied)" in error.message
    assert str(web_identity) in error.message
    hint = str(error.hint)
    assert "trust policy of arn:aws:iam::111122223333:role/teams/pod" in hint
    for part in ("iss https://oidc.example.com/id/X", "sub system:serviceaccount:ns:app", "aud sts", "--role-name pod"):
        assert part in hint


@pytest.mark.parametrize("text", ["no-token-at-all", "a.b.c", "a.bnVsbA.c", "a.W10.c"])
def test_a_token_that_says_nothing_is_not_repeated(web_identity: Path, text: str) -> None:
    web_identity.write_text(text)
    hint = str(refused("AccessDenied").hint)
    assert "the token has" not in hint
    assert "sub and aud" in hint


def test_a_claim_of_unusual_characters_is_not_repeated(web_identity: Path) -> None:
    web_identity.write_text(token(iss="https://a.example", sub="x\x1b[31m", aud=7))
    assert "(the token has iss https://a.example)" in str(refused("AccessDenied").hint)


def test_a_provider_that_iam_does_not_know_is_named(web_identity: Path) -> None:
    web_identity.write_text(token(iss="https://a.example"))
    assert "list-open-id-connect-providers" in str(refused("InvalidIdentityToken").hint)
