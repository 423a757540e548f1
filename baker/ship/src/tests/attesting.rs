//! The test result of a release: what it says, who may have signed it, and who else reads it.

use std::fs;
use std::path::Path;

use baker_model::manifest::Waiver;
use baker_model::{Failure, Interrupt, Manifest, Silent, Verdict};

use super::fixture::{self, judge, problems, verified};
use crate::dsse::{Envelope, IN_TOTO};
use crate::test_result::{Outcome, TEST_RESULT_TYPE, statement};
use crate::{Draft, Key, Purpose, Signer, TEST_RESULT, Trust, Warning, verify};

/// The problems of a release whose test result was signed by `key` over the statement of another
/// manifest.
fn lied(key: &Key, change: impl FnOnce(&mut Manifest)) -> Vec<String> {
    let (_folder, path) = fixture::release();
    let mut manifest = fixture::manifest();
    change(&mut manifest);
    let mut envelope = Envelope::new(IN_TOTO, statement(&manifest).to_bytes());
    envelope.sign(key).unwrap();
    fs::write(path.join(TEST_RESULT), envelope.to_bytes()).unwrap();
    problems(&verified(&path))
}

/// What a liar changes, and what is said of it.
type Lie = (&'static str, Box<dyn FnOnce(&mut Manifest)>);

#[test]
fn a_trusted_key_cannot_say_more_than_the_manifest() {
    let key = fixture::key();
    assert_eq!(lied(&key, |_| {}), Vec::<String>::new());
    let failed = Verdict::Failed {
        failure: Failure::KernelPanic,
        detail: "x".to_owned(),
    };
    let rows: [Lie; 6] = [
        ("another disk", Box::new(|m| m.files[0].sha256 = m.lock)),
        ("another result", Box::new(|m| m.tests[0].verdict = failed)),
        (
            "another list of tests",
            Box::new(|m| {
                m.plans[0].name = Some("more".to_owned());
                m.tests[0].name = "more".to_owned();
            }),
        ),
        (
            "another configuration",
            Box::new(|m| m.files[2].sha256 = m.recipe),
        ),
        (
            "another evidence",
            Box::new(|m| m.files[1].sha256 = m.recipe),
        ),
        ("another detail", Box::new(|m| m.root_hash = m.recipe)),
    ];
    for (expected, change) in rows {
        let found = lied(&key, change);
        assert_eq!(found.len(), 1, "{expected}: {found:?}");
        assert!(found[0].contains(expected), "{expected}: {found:?}");
    }
}

#[test]
fn a_stranger_cannot_vouch_for_the_tests() {
    let stranger = Key::from_seed("stranger", Purpose::Release, &[3; 32]);
    let found = lied(&stranger, |_| {});
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("no trusted key signed the test result"),
        "{found:?}"
    );
    // A good signature under a wrong name, and a wrong one under a good name.
    let (_folder, path) = fixture::release();
    let file = path.join(TEST_RESULT);
    let good = fs::read_to_string(&file).unwrap();
    let id = |key: &Key| key.public().id().to_string();
    let renamed = good.replace(&id(&fixture::key()), &id(&stranger));
    fs::write(&file, renamed).unwrap();
    let found = problems(&verified(&path));
    assert!(found[0].contains("names another key"), "{found:?}");
    let mut forged = Envelope::new(IN_TOTO, statement(&fixture::manifest()).to_bytes());
    forged.add(
        fixture::key().public().id(),
        stranger.sign(&forged.message()).unwrap().bytes,
    );
    fs::write(&file, forged.to_bytes()).unwrap();
    let found = problems(&verified(&path));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("is not over this test result"),
        "{found:?}"
    );
}

#[test]
fn the_result_says_what_the_tests_said() {
    let result = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = fixture::manifest();
        change(&mut manifest);
        statement(&manifest).predicate
    };
    let good = result(&|_| {});
    assert_eq!(
        (good.result, good.passed_tests),
        (Outcome::Passed, vec!["uefi".to_owned()])
    );
    assert_eq!((good.configuration.len(), good.evidence.len()), (2, 1));
    let warned = result(&|m| m.tests[0].warnings.push("slow".to_owned()));
    assert_eq!(
        (warned.result, warned.warned_tests),
        (Outcome::Warned, vec!["uefi".to_owned()])
    );
    let missing = result(&|m| m.tests.clear());
    assert_eq!(
        (missing.result, missing.missing_tests),
        (Outcome::Warned, vec!["uefi".to_owned()])
    );
    assert_eq!(missing.passed_tests, Vec::<String>::new());
    let none = result(&|m| {
        m.tests.clear();
        m.plans.clear();
    });
    assert_eq!(none.result, Outcome::Warned);
}

#[test]
fn warnings_of_tests_are_told_and_waivers_stand_in_the_statement() {
    let folder = tempfile::tempdir().unwrap();
    let mut manifest = fixture::stage(folder.path());
    manifest.tests[0].warnings.push("slow".to_owned());
    let sign = |manifest: Manifest| {
        let draft = Draft::new(folder.path().to_owned(), manifest);
        draft
            .sign(&fixture::key(), &Silent, &Interrupt::new())
            .unwrap()
    };
    drop(sign(manifest.clone()));
    let report = verified(folder.path());
    assert!(report.is_good(), "{report:?}");
    let told = |warning: &Warning| matches!(warning, Warning::TestWarned { warnings, .. } if warnings[..] == ["slow"]);
    assert!(report.warnings.iter().any(told), "{report:?}");
    manifest.tests.clear();
    manifest.waivers.push(Waiver::new("tests", "no QEMU here"));
    drop(sign(manifest));
    let text = fs::read(folder.path().join(TEST_RESULT)).unwrap();
    let payload = Envelope::parse(&text).unwrap().payload().to_vec();
    let payload = String::from_utf8(payload).unwrap();
    assert!(
        payload.contains(r#""baker_waivers":["no QEMU here"]"#),
        "{payload}"
    );
    assert!(payload.contains(r#""result":"WARNED""#), "{payload}");
}

#[test]
fn every_signer_of_the_release_signs_its_test_result() {
    let folder = tempfile::tempdir().unwrap();
    let other = Key::from_seed("other", Purpose::Release, &[9; 32]);
    drop(fixture::signed(folder.path()).countersign(&other).unwrap());
    for key in [&other, &fixture::key()] {
        let trust = Trust::of([key.public()]);
        let report = verify(folder.path(), &trust, &Silent, &Interrupt::new()).unwrap();
        assert!(report.is_good(), "{report:?}");
    }
}

/// Checks signatures with securesystemslib and the statement with in-toto's own library.
const JUDGE: &str = r#"
import json, sys
try:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey
    from securesystemslib.exceptions import VerificationError
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
    from google.protobuf import json_format
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
except ModuleNotFoundError as error:
    print(error)
    sys.exit(77)
file, public, keyid = sys.argv[1:]
envelope = Envelope.from_dict(json.load(open(file)))
pem = load_pem_public_key(open(public, "rb").read())
key = SSlibKey.from_crypto(pem, keyid=keyid)
try:
    assert list(envelope.verify([key], 1)) == [keyid]
except VerificationError as error:
    print(error)
    sys.exit(1)
assert envelope.payload_type == "application/vnd.in-toto+json"
content = json.loads(envelope.payload)
statement = Statement([], "", {})
json_format.ParseDict(content, statement.pb)
statement.validate()
predicate = {key: value for key, value in content["predicate"].items() if not key.startswith("baker_")}
json_format.ParseDict(predicate, test_result_pb2.TestResult())
print(statement.pb.predicate_type, statement.pb.subject[0].digest["sha256"])
"#;

/// The output of the judge about a file; none when its libraries are not there.
fn judged(path: &Path, file: &str) -> Option<(Option<i32>, String)> {
    let outside = tempfile::tempdir().unwrap();
    let public = outside.path().join("key.pub");
    fs::write(&public, fixture::key().public().to_text()).unwrap();
    let python = std::env::var("BAKER_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let keyid = fixture::key().public().id().to_string();
    let arguments = ["-c", JUDGE, file, public.to_str().unwrap(), &keyid];
    let output = judge(path, &python, &arguments)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(77) {
        // Libraries of PyPI are an extra judge: nobody is made to have them.
        eprintln!("SKIPPED: pip install securesystemslib cryptography in-toto-attestation: {said}");
        return None;
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Some((output.status.code(), said + &errors))
}

#[test]
fn the_libraries_of_in_toto_accept_the_test_result() {
    let (_folder, path) = fixture::release();
    let Some((code, said)) = judged(&path, TEST_RESULT) else {
        return;
    };
    assert_eq!(code, Some(0), "{said}");
    let disk = fixture::manifest().files[0].sha256;
    assert_eq!(said.trim(), format!("{TEST_RESULT_TYPE} {disk}"));
    let mut other = Envelope::new(IN_TOTO, b"{}".to_vec());
    other.add(fixture::key().public().id(), vec![0; 64]);
    fs::write(path.join("other.json"), other.to_bytes()).unwrap();
    let (code, said) = judged(&path, "other.json").unwrap();
    assert_eq!(code, Some(1), "the judge must be able to refuse: {said}");
}
