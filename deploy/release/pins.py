"""What a file of pinned requirements says: the packages, the digests of their files, and who needs whom."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = "phasesync"
"""Who needs the packages that pyproject.toml names."""


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One package."""

    name: str
    version: str
    digests: tuple[str, ...]
    """SHA-256 of each of its files, in hexadecimal digits."""
    needed_by: tuple[str, ...]
    """Names of packages, `ROOT` among them."""


def read_pins(file: Path) -> list[Pin]:
    """Return the packages of a file that `make lock` wrote, in its order."""
    pins = []
    for block in re.split(r"^(?=[a-z0-9])", file.read_text(), flags=re.MULTILINE)[1:]:
        head = re.match(r"([a-z0-9.-]+)==([^\s;]+)", block)
        if head is None:
            raise SystemExit(f"{file}: no pinned package: {block.splitlines()[0]}")
        _, _, comment = block.partition("# via")
        needing = [line.strip(" #") for line in comment.splitlines()]
        pins.append(
            Pin(
                name=head[1],
                version=head[2],
                digests=tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", block)),
                # "phasesync (pyproject.toml)"; "-c" is a file of constraints.
                needed_by=tuple(sorted(line.partition(" ")[0] for line in needing if line and line[0] != "-")),
            )
        )
    return pins
