"""Judges the bills of materials of a release with libraries that baker has no part in.

    python sbom.py FILE.spdx.json FILE.cdx.json STATUS OLD_NAME OLD_VERSION FIXED_VERSION

The schemas: cyclonedx-python-lib (the official JSON schema, strict) and spdx-tools (the reference
validator). Reading: lib4sbom and packageurl, each finding the package that is older than the
version that mends it; the package database of the image must say the same as both documents.
"""

import subprocess
import sys

from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from lib4sbom.parser import SBOMParser
from packageurl import PackageURL
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
import json

spdx_path, cyclonedx_path, status_path, name, version, fixed = sys.argv[1:7]
failures = []


def want(holds, what):
    if not holds:
        failures.append(what)


def is_older(left, right):
    return subprocess.run(["dpkg", "--compare-versions", left, "lt", right]).returncode == 0


# The schemas.
with open(cyclonedx_path, encoding="utf-8") as file:
    text = file.read()
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
want(error is None, f"CycloneDX schema: {error}")
document = parse_file(spdx_path)
for message in validate_full_spdx_document(document)[:10]:
    failures.append(f"SPDX: {message.validation_message}")

# The database that dpkg left in the image.
database = {}
with open(status_path, encoding="utf-8") as file:
    for stanza in file.read().split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " "
        )
        if "Package" in fields:
            database[fields["Package"]] = fields["Version"]
want(len(database) > 10, "the database names hardly any package")

# Three readers, each with its own idea of a package.
bom = Bom.from_json(json.loads(text))
by_cyclonedx = {
    component.name: component.version
    for component in bom.components
    if any(p.name == "baker:role" and p.value == "root" for p in component.properties)
}
by_spdx = {}
for package in document.packages:
    for reference in package.external_references:
        url = PackageURL.from_string(reference.locator)
        if url.type == "deb":
            by_spdx[url.name] = url.version
by_lib4sbom = {}
for path in (spdx_path, cyclonedx_path):
    parser = SBOMParser()
    parser.parse_file(path)
    found = {package["name"]: package.get("version") for package in parser.get_packages()}
    for package, is_version in database.items():
        want(found.get(package) == is_version, f"lib4sbom, {path}: {package} {found.get(package)}")
    by_lib4sbom[path] = found
want(by_cyclonedx == database, "CycloneDX and the package database differ")
want({n: v for n, v in by_spdx.items() if n in database} == database, "SPDX and database differ")

# The planted old version is seen by each.
readers = {"cyclonedx": by_cyclonedx, "spdx": by_spdx, "database": database, **by_lib4sbom}
for reader, packages in readers.items():
    found = packages.get(name)
    want(found == version, f"{reader} sees {name} {found}, not {version}")
    want(found is not None and is_older(found, fixed), f"{reader} misses that {name} is old")

print("\n".join(failures) or f"{len(database)} packages, {len(document.files)} files")
sys.exit(1 if failures else 0)
