"""
Writes SHA256SUMS for the files of a release, in the form that `sha256sum --check` reads.

    python checksums.py dist
"""

import argparse
import hashlib
from pathlib import Path

NAME = "SHA256SUMS"


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description="Write SHA256SUMS.")
    parser.add_argument("folder", type=Path, help="The folder with the files.")
    folder = parser.parse_args().folder
    lines = [f"{digest_of(path)}  {path.name}\n" for path in released(folder)]
    (folder / NAME).write_text("".join(lines))


def released(folder: Path) -> list[Path]:
    """Return the files of a release in this folder, without the list of their digests."""
    return sorted(path for path in folder.glob("phasesync*") if path.is_file())


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(folder: Path) -> list[str]:
    """Return what is wrong with the files or with their list."""
    lines = (folder / NAME).read_text().splitlines() if (folder / NAME).exists() else []
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = {path.name: digest_of(path) for path in released(folder)}
    wrong = [f"{name} is not in {NAME}" for name in sorted(found.keys() - listed.keys())]
    wrong += [f"{name} is in {NAME}, and missing" for name in sorted(listed.keys() - found.keys())]
    return wrong + [
        f"{name} has another digest" for name in sorted(found) if listed.get(name, "") not in ("", found[name])
    ]


if __name__ == "__main__":
    main()
