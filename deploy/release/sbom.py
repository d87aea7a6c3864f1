"""
Writes the bill of materials of a release, in CycloneDX 1.6: the packages that it brings, their files' digests, their
licences, and who needs whom.

    python sbom.py --wheel dist/phasesync-0.2.0-py3-none-any.whl dist/phasesync-0.2.0.cdx.json

Everything in it follows from the wheel, the pinned requirements and THIRD-PARTY-LICENSES.txt, so that the same tree
gives the same bytes. `make dist` is how it is called.
"""

import argparse
import hashlib
import re
import tomllib
import uuid
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from licences import DOCUMENT, PINNED, read_expressions
from packageurl import PackageURL
from pins import ROOT, Pin, read_pins

TREE = Path(__file__).parents[2]


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description="Write the bill of materials of a release.")
    parser.add_argument("--wheel", type=Path, required=True, help="The program.")
    parser.add_argument("file", type=Path, help="The file to write.")
    given = parser.parse_args()
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    text = JsonV1Dot6(bom(project, given.wheel, read_pins(PINNED), read_expressions(DOCUMENT))).output_as_string(
        indent=2
    )
    if (wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise SystemExit(f"the bill of materials does not follow its schema: {wrong}")
    given.file.write_text(text + "\n")


def bom(project: dict, wheel: Path, pins: list[Pin], licences: dict[str, str]) -> Bom:
    """
    Return the bill of materials.

    Args:
        project: that table of pyproject.toml.
        wheel: the program.
        pins: the packages that it brings.
        licences: package -> expression of SPDX.
    """
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    purl = PackageURL("generic", None, project["name"], project["version"])
    ours = Component(
        type=ComponentType.APPLICATION,
        name=project["name"],
        version=project["version"],
        description=project["description"],
        bom_ref=purl.to_string(),
        purl=purl,
        licenses=[LicenseFactory().make_from_string(project["license"])],
        external_references=[_files(wheel.name, [digest])],
    )
    # Neither the time nor chance: whoever builds the same tree gets the same file.
    metadata = BomMetaData(component=ours)
    metadata.timestamp = None
    made = Bom(metadata=metadata, serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{purl}?sha256={digest}"))
    needed = _needed_at_least(project, pins)
    components = {ROOT: ours}
    for pin in pins:
        purl = PackageURL("pypi", None, pin.name, pin.version)
        components[pin.name] = Component(
            type=ComponentType.LIBRARY,
            name=pin.name,
            version=pin.version,
            bom_ref=purl.to_string(),
            purl=purl,
            scope=ComponentScope.REQUIRED if pin.name in needed else ComponentScope.OPTIONAL,
            licenses=[LicenseFactory().make_from_string(licences[pin.name])],
            external_references=[_files(purl.to_string(), pin.digests)],
        )
        made.components.add(components[pin.name])
    for name, component in components.items():
        made.register_dependency(component, [components[pin.name] for pin in pins if name in pin.needed_by])
    return made


def _files(place: str, digests: list[str] | tuple[str, ...]) -> ExternalReference:
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in digests]
    return ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(place), hashes=hashes)


def _needed_at_least(project: dict, pins: list[Pin]) -> set[str]:
    """Return the packages that phasesync needs without any extra."""
    found: set[str] = set()
    more = {re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in project["dependencies"]}
    while more:
        found |= more
        more = {pin.name for pin in pins if found & set(pin.needed_by)} - found
    return found


if __name__ == "__main__":
    main()
