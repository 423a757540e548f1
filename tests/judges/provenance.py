"""Judges the signed statements of a release with libraries that baker has no part in.

    python provenance.py RELEASE PUBLIC_KEY STRANGER

The envelopes: securesystemslib (DSSE), and openssl over bytes that are put together here by the
specification. The statements: in-toto-attestation, whose messages know every field and refuse
others. RELEASE is its folder; STRANGER is the public key of somebody who has not signed.
"""

import base64
import json
import pathlib
import subprocess
import sys
import tempfile

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

release, public, stranger = map(pathlib.Path, sys.argv[1:4])
failures = []


def want(holds, what):
    if not holds:
        failures.append(what)


def key_of(path, key_id):
    return SSlibKey.from_crypto(load_pem_public_key(path.read_bytes()), keyid=key_id)


def openssl_takes(message, signature, key):
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder, name) for name in ("message", "signature")]
        for path, content in zip(paths, (message, signature)):
            path.write_bytes(content)
        command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", key]
        command += ["-in", paths[0], "-sigfile", paths[1]]
        return subprocess.run(command, capture_output=True).returncode == 0


def payload_of(name):
    """The statement of an envelope that both verifiers take, and only by the right key."""
    text = json.loads(release.joinpath(name).read_text())
    [signature] = text["signatures"]
    kind, payload = text["payloadType"], base64.b64decode(text["payload"])
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    by_hand = base64.b64decode(signature["sig"])
    want(openssl_takes(message, by_hand, public), f"{name}: openssl refuses it")
    want(not openssl_takes(message, by_hand, stranger), f"{name}: openssl takes any key")
    envelope = Envelope.from_dict(json.loads(json.dumps(text)))
    for path, is_good in ((public, True), (stranger, False)):
        try:
            envelope.verify([key_of(path, signature["keyid"])], 1)
            want(is_good, f"{name}: securesystemslib takes any key")
        except VerificationError as error:
            want(not is_good, f"{name}: securesystemslib: {error}")
    return kind, payload


def judge(name, predicate_type):
    kind, payload = payload_of(name)
    want(kind == "application/vnd.in-toto+json", f"{name}: payload of type {kind}")
    message = json_format.Parse(payload, statement_pb2.Statement())
    Statement.copy_from_pb(message).validate()
    want(message.predicate_type == predicate_type, f"{name}: {message.predicate_type}")
    return json.loads(payload), message


text, statement = judge("provenance.intoto.json", "https://slsa.dev/provenance/v1")
judge("test-result.intoto.json", "https://in-toto.io/attestation/test-result/v0.1")
provenance = json_format.Parse(json.dumps(text["predicate"]), Provenance())
definition, details = provenance.build_definition, provenance.run_details
for resource in [*definition.resolved_dependencies, *details.builder.builder_dependencies]:
    ResourceDescriptor.copy_from_pb(resource).validate()
want(definition.build_type and details.builder.id, "no build type or no builder")

# Every subject is the file of that name.
for subject in statement.subject:
    path = release / subject.name
    found = subprocess.run(["sha256sum", path], capture_output=True, text=True).stdout
    want(found.split(" ")[0] == subject.digest["sha256"], f"{subject.name} is another file")

count = len(definition.resolved_dependencies)
print("\n".join(failures) or f"{len(statement.subject)} subjects, {count} materials")
sys.exit(1 if failures else 0)
