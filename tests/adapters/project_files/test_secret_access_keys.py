"""Where a secret access key of a document comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from phasesync.adapters.project_files.secret_access_keys import resolve_secret
from phasesync.core.project.desired import SecretOrigin
from phasesync.core.project.nodes import Place
from phasesync.errors import DocumentError

KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
PLACE = Place("shop.yaml", 7, 5)


def never() -> str:
    pytest.fail("it was asked for")


def test_it_comes_from_a_variable_a_file_or_a_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", KEY)
    (tmp_path / "key").write_text(f"{KEY}\n")

    origins = (
        (SecretOrigin(env="SHOP_KEY", place=PLACE), never),
        (SecretOrigin(file=str(tmp_path / "key"), place=PLACE), never),
        (SecretOrigin(prompt=True, place=PLACE), lambda: KEY),
    )

    assert [resolve_secret(origin, prompt=prompt).reveal_text() for origin, prompt in origins] == [KEY] * 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "there is no secret access key"),
        (b"aws_secret_access_key = " + KEY.encode(), "that is not a secret access key"),
        (KEY.encode() * 200, "is too long"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_what_is_no_key_is_refused_with_the_place_and_never_repeated(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)

    with pytest.raises(DocumentError) as caught:
        resolve_secret(SecretOrigin(file=str(tmp_path / "key"), place=PLACE), prompt=never)

    assert caught.value.message.startswith("shop.yaml:7:5: ") and message in caught.value.message
    assert KEY not in caught.value.message


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_KEY", raising=False)

    with pytest.raises(DocumentError, match=r"shop\.yaml:7:5: the environment variable SHOP_KEY is not set"):
        resolve_secret(SecretOrigin(env="SHOP_KEY", place=PLACE), prompt=never)
