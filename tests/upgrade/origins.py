"""Which code made which database: what releases.toml says, and the code itself, from git."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
FIXTURES: Final = Path(__file__).with_name("fixtures")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """
    Code that made a database of a former schema.

    Attributes:
        name: of its fixtures: `v0.1.0` of a release, `schema-0001` of a schema from before the first one.
        commit: the code; every clone has it, whether it has tags or not.
        schema: the revision that it brings a database to.
        version: of the release; None if it was none.
        actions: IAM actions that the policies of a release can ask for.
        calls: IAM actions of all calls that it can make at AWS.
    """

    name: str
    commit: str
    schema: str
    version: str | None = None
    actions: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()


def origins() -> list[Origin]:
    """Return all of them, by schema."""
    with Path(__file__).with_name("releases.toml").open("rb") as file:
        listed: dict[str, list[dict[str, Any]]] = tomllib.load(file)
    found = [
        Origin(
            name=one["tag"],
            commit=one["commit"],
            schema=one["schema"],
            version=one["version"],
            actions=frozenset(one["actions"]),
            calls=frozenset(one["calls"]),
        )
        for one in listed["releases"]
    ]
    found += [
        Origin(name=f"schema-{one['schema']}", commit=one["commit"], schema=one["schema"]) for one in listed["schemas"]
    ]
    return sorted(found, key=lambda origin: (origin.schema, origin.version or ""))


def releases() -> list[Origin]:
    """Return those that are releases, oldest first."""
    return [origin for origin in origins() if origin.version is not None]


def has_commit(commit: str) -> bool:
    """Return whether this is a clone that has a commit: a source archive is none, and a shallow clone has few."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return False
    asked = ["git", "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, check=False).returncode == 0


def unpack(commit: str, folder: Path) -> None:
    """Write the whole tree of a commit into a folder."""
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as file:
        file.extractall(folder, filter="data")
