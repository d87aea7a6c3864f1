"""What is in every database of `fixtures/`, so that a test can compare it."""

from __future__ import annotations

from typing import Final

ROOT_KEY: Final = bytes(range(32))
"""That of `tests.support.stores`, and of every fixture."""

TEXTS: Final = {
    ("/", "DATABASE_URL"): "postgres://shop:s3cret-3@db/shop",
    ("/", "GREETING"): "Grüße, 世界 🌍\nsecond line",
    ("/db", "PASSWORD"): "in-a-folder",
    ("/", "LONG"): "0123456789abcdef" * 1500,
    ("/", "REFERS"): "${DATABASE_URL}",
}
"""Folder and key -> text in `shop/production`. LONG takes more than one page of SQLite."""

JSON: Final = '{"debug":false,"levels":[1,2,3]}'
BINARY: Final = bytes(range(256))
FORMER: Final = ("postgres://shop:s3cret-1@db/shop", "postgres://shop:s3cret-2@db/shop")
"""The earlier values of DATABASE_URL, oldest first."""

COMMENT: Final = "asked for by the shop team"
UNSET: Final = "GONE"
"""A key that was set once."""

ACCESS_KEY_ID: Final = "AKIAFIXTUREFIXTURE01"
SECRET_ACCESS_KEY: Final = "fixture-secret-access-key-of-nobody"
