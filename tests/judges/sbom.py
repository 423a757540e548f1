"""Judges the bills of materials of a release with libraries that baker has no part in.

    python sbom.py FILE.spdx.json FILE.cdx.json ROOT NAME VERSION FIXED_VERSION

ROOT is the root of the image, unpacked by another program. The schemas: cyclonedx-python-lib (the
official JSON schema, strict) and spdx-tools (the reference validator). Reading: cyclonedx-python-lib,
spdx-tools with packageurl, and lib4sbom, each finding NAME in VERSION, which is older than the one
that mends it. Scanning the root: dpkg-query and debian-inspector, whose package databases must say
the same as both documents; and every file of the root must be in the documents, with its digest
and an owner that the database knows it by.
"""

import hashlib
import json
import pathlib
import subprocess
import sys

from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from debian_inspector.debcon import get_paragraphs_data_from_file
from debian_inspector.version import compare_versions
from lib4sbom.parser import SBOMParser
from packageurl import PackageURL
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

spdx_path, cyclonedx_path, root, name, version, fixed = sys.argv[1:7]
root = pathlib.Path(root)
admin = root / "usr/share/factory/var/lib/dpkg"
failures = []


def want(holds, what):
    if not holds:
        failures.append(what)


# The schemas.
with open(cyclonedx_path, encoding="utf-8") as file:
    text = file.read()
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
want(error is None, f"CycloneDX schema: {error}")
document = parse_file(spdx_path)
for message in validate_full_spdx_document(document)[:10]:
    failures.append(f"SPDX: {message.validation_message}")

# The package database of the image, as two scanners read it.
command = ["dpkg-query", f"--admindir={admin}", "--show", "--showformat=${Package} ${Version}\\n"]
shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
database = dict(line.split(" ") for line in shown.splitlines())
want(len(database) > 10, "dpkg-query names hardly any package")
paragraphs = get_paragraphs_data_from_file(str(admin / "status"))
inspected = {paragraph["package"]: paragraph["version"] for paragraph in paragraphs}
want(inspected == database, "dpkg-query and debian-inspector differ")

# Three readers, each with its own idea of a package.
bom = Bom.from_json(json.loads(text))


def property_of(component, name):
    return next((p.value for p in component.properties if p.name == f"baker:{name}"), None)


packages = [component for component in bom.components if property_of(component, "role")]
by_cyclonedx = {p.name: p.version for p in packages if property_of(p, "role") == "root"}
want({property_of(p, "role") for p in packages} == {"root", "kernel", "boot"}, "a role is missing")
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

# What a package must say of itself, in both documents.
for package in packages:
    is_full = package.licenses and package.hashes and package.purl and package.supplier
    want(is_full, f"CycloneDX: {package.name} lacks licence, digest, purl or supplier")
    want(property_of(package, "source-package"), f"CycloneDX: {package.name} has no source")
for package in document.packages[1:]:
    is_full = package.checksums and package.external_references and package.supplier
    want(is_full, f"SPDX: {package.name} lacks digest, purl or supplier")
    want(str(package.license_declared) != "NOASSERTION", f"SPDX: {package.name} has no licence")

# Every file of the root, and nothing else.
lists = {path.stem: set(path.read_text().splitlines()) for path in admin.glob("info/*.list")}


def components_of(component):
    for part in component.components:
        yield part
        yield from components_of(part)


known = {}
for component in [*bom.components, bom.metadata.component]:
    for part in components_of(component):
        if property_of(part, "place") == "root":
            known[part.name] = part
spdx_files = {file.name: file for file in document.files}
for path in root.rglob("*"):
    place = f"/{path.relative_to(root)}"
    part = known.pop(place, None)
    if part is None:
        failures.append(f"{place} is in no bill of materials")
        continue
    owner = property_of(part, "owner")
    want(owner != "nobody", f"{place} belongs to nobody")
    if owner.startswith("package ") and owner.split(" ")[1] in lists:
        want(place in lists[owner.split(" ")[1]], f"the database has {place} not of {owner}")
    if path.is_symlink():
        want(property_of(part, "target") == str(path.readlink()), f"{place} links elsewhere")
    elif path.is_file():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        want(any(h.content == digest for h in part.hashes), f"CycloneDX: {place} is another file")
        found = spdx_files.get(f".{place}")
        sums = [c.value for c in found.checksums] if found else []
        want(digest in sums, f"SPDX: {place} is another file, or missing")
known.pop("/", None)
want(not known, f"not in the root: {sorted(known)[:5]}")

# The old version is seen by each.
readers = {
    "cyclonedx": by_cyclonedx,
    "spdx": by_spdx,
    "dpkg-query": database,
    "debian-inspector": inspected,
    **by_lib4sbom,
}
for reader, packages in readers.items():
    found = packages.get(name)
    want(found == version, f"{reader} sees {name} {found}, not {version}")
    is_old = found is not None and compare_versions(found, fixed) < 0
    want(is_old, f"{reader} misses that {name} is old")

print("\n".join(failures) or f"{len(database)} packages, {len(document.files)} files")
sys.exit(1 if failures else 0)
