"""
Writes THIRD-PARTY-LICENSES.txt: the licence of each package that phasesync brings, by its name and in full.

    make licences       from the development environment, where all of them are installed

The file is kept beside the pinned requirements, so that a licence that changes shows where a release of a package does.
"""

import argparse
import re
from importlib.metadata import Distribution, distribution
from pathlib import Path

from pins import Pin, read_pins

TREE = Path(__file__).parents[2]
PINNED = TREE / "requirements" / "runtime.txt"
DOCUMENT = TREE / "THIRD-PARTY-LICENSES.txt"

ALLOWED = frozenset(
    {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "LGPL-3.0-only", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0"}
)
"""With another one somebody has to decide first whether it may be passed on with phasesync."""

_DECIDED = {
    # Its metadata says "BSD License", its text has three clauses.
    "cronsim": "BSD-3-Clause",
    # Its metadata says nothing.
    "pyrage": "MIT",
    # All of it is under the BSD licence, newer parts under Apache's as well.
    "python-dateutil": "BSD-3-Clause",
}
_SPELLINGS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache License 2.0": "Apache-2.0",
    "License :: OSI Approved :: MIT License": "MIT",
}

_HEAD = """\
The licences of the packages that phasesync needs
=================================================

phasesync itself is under the Apache License 2.0: see LICENSE. These are the packages of requirements/runtime.txt, which
the Debian package and the image bring along, with the numbers of the texts below. What the authors of a package
compiled into its wheels is listed in the folder sboms of its dist-info, where they list it.

"""


def main() -> None:
    """Write the file."""
    argparse.ArgumentParser(description="Write THIRD-PARTY-LICENSES.txt.").parse_args()
    DOCUMENT.write_text(document(read_pins(PINNED)), encoding="utf-8")


def document(pins: list[Pin]) -> str:
    """Return the file for these packages, which are installed here in these versions."""
    texts: dict[str, int] = {}
    lines = []
    for pin in pins:
        installed = distribution(pin.name)
        if installed.version != pin.version:
            raise SystemExit(f"{pin.name} {installed.version} is installed and not {pin.version}: make .venv/.dev")
        numbers = [str(texts.setdefault(text, len(texts) + 1)) for text in texts_of(installed)]
        if not numbers:
            raise SystemExit(f"{pin.name} {pin.version} has no file with its licence: ask its authors for one")
        lines.append(f"{pin.name} {pin.version}: {expression_of(pin.name, installed)} [{', '.join(numbers)}]\n")
    rule = "-" * 120
    return _HEAD + "".join(lines) + "".join(f"\n{rule}\n[{number}]\n\n{text}\n" for text, number in texts.items())


def expression_of(name: str, installed: Distribution) -> str:
    """Return the licence of a package, as SPDX spells it."""
    said = [installed.metadata.get("License-Expression"), installed.metadata.get("License")]
    said += [each for each in installed.metadata.get_all("Classifier") or [] if each.startswith("License ::")]
    for each in (_DECIDED.get(name), *said):
        spelled = _SPELLINGS.get(each or "", each or "")
        if spelled and set(re.split(r" (?:AND|OR) ", spelled)) <= ALLOWED:
            return spelled
    raise SystemExit(f"{name}: no licence that may be passed on, by its metadata: {[each for each in said if each]}")


def texts_of(installed: Distribution) -> list[str]:
    """Return the files with the licence of a package and its notices, in the order of their names."""
    named = re.compile(r"\.dist-info/(?:licenses/)*(?:LICEN[CS]E|COPYING|NOTICE)[^/]*$", re.IGNORECASE)
    files = sorted((path for path in installed.files or [] if named.search(path.as_posix())), key=str)
    texts = [Path(str(path.locate())).read_text(encoding="utf-8") for path in files]
    # The same text with other spaces at the ends of lines is the same.
    return ["\n".join(line.rstrip() for line in text.strip("\n").splitlines()) for text in texts]


def read_expressions(file: Path) -> dict[str, str]:
    """Return package -> licence, as the file has it."""
    return dict(re.findall(r"^([a-z0-9.-]+) [^ :]+: ([^\[\n]+) \[[\d, ]+\]$", file.read_text("utf-8"), re.MULTILINE))


if __name__ == "__main__":
    main()
