//! The conclusions that an update can have, from evidence as the judge gives it.

use baker_build::disk::UKI_FOLDER;
use baker_model::layout::Layout;
use serde_json::json;

use super::*;

const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

fn manifest(version: &str, hash: [u8; 32]) -> Manifest {
    let digest = Digest::of(b"");
    let text = json!({
        "manifest-version": 1, "name": "x", "version": version, "architecture": "amd64",
        "epoch": 0, "recipe": digest, "lock": digest, "source": null,
        "baker": {"version": "1", "guest": digest}, "root-hash": Digest::from_bytes(hash),
        "command-line": "", "files": [], "packages": [], "plans": [], "tests": [], "waivers": []
    });
    Manifest::parse(text.to_string().as_bytes()).unwrap()
}

fn failed(failure: Kind, detail: &str) -> Verdict {
    Verdict::Failed {
        failure,
        detail: detail.to_owned(),
    }
}

fn evidence(verdict: Verdict, running: Option<[u8; 32]>, attempts: &[Verdict]) -> Evidence {
    let guest = running.map(|hash| {
        json!({
            "kernel": "6", "secure-boot": "none", "root-hash": Digest::from_bytes(hash),
            "state": "running", "memory-kib": 1, "settled-ms": 1
        })
    });
    let digest = Digest::of(b"");
    let text = json!({
        "evidence-version": 2, "plan": TestPlan::default(), "verdict": verdict,
        "milliseconds": 1, "timeline": [],
        "accelerator": {"accelerator": "tcg", "reason": ""},
        "qemu-version": "7", "argv": [], "command": "", "nonce": "", "root-hash": null,
        "probe": "carried", "guest": guest, "checks": [], "failed-units": [],
        "detection-milliseconds": 0, "screenshot": null, "shared-with": [],
        "disk-before": digest, "disk-after": digest, "shutdown": {"how": "killed"},
        "serial-log": "", "qemu-log": "", "retries": [], "warnings": ["of the run"],
        "attempts": (1..).zip(attempts).map(|(boot, verdict)| json!({
            "boot": boot, "verdict": verdict, "milliseconds": 1000 * boot
        })).collect::<Vec<_>>()
    });
    serde_json::from_value(text).unwrap()
}

fn concluded(evidence: &Evidence, names: &[&str]) -> Account {
    let entry = |name: &str| Entry::parse(&format!("{UKI_FOLDER}/{name}")).unwrap();
    let made = Upgraded {
        layout: Layout {
            disk_uuid: [0; 16],
            size: 0,
            partitions: Vec::new(),
        },
        old: entry("x_1.0.0.efi"),
        new: entry("x_1.1.0+2.efi"),
    };
    let entries: Vec<Entry> = names.iter().map(|name| entry(name)).collect();
    let (old, new) = (manifest("1.0.0", OLD), manifest("1.1.0", NEW));
    account(evidence, &made, &entries, &old, &new)
}

#[test]
fn a_good_version_is_blessed_and_nothing_less_passes() {
    let good = evidence(Verdict::Passed, Some(NEW), &[]);
    let rows = [
        ("x_1.1.0.efi", Ending::Blessed, "passed"),
        (
            "x_1.1.0+1-1.efi",
            Ending::Unblessed,
            "the ESP has x_1.1.0+1-1.efi",
        ),
        ("x_2.0.0.efi", Ending::Unblessed, "no UKI of it"),
    ];
    for (name, ending, words) in rows {
        let account = concluded(&good, &["x_1.0.0.efi", name]);
        assert_eq!(account.ending, ending, "{name}");
        assert!(account.verdict.to_string().contains(words), "{account:?}");
        assert_eq!(account.verdict.is_passed(), ending == Ending::Blessed);
    }
}

#[test]
fn a_bad_version_is_named_by_its_own_fault() {
    let reset = failed(Kind::GuestReset, "the guest restarted");
    let unit = failed(Kind::UnitFailed, "broken.service (exit-code)");
    let left = ["x_1.0.0.efi", "x_1.1.0+0-2.efi"];

    let fell = evidence(Verdict::Passed, Some(OLD), &[reset.clone(), unit]);
    let account = concluded(&fell, &left);
    assert_eq!(account.ending, Ending::FellBack);
    assert_eq!(
        account.verdict.to_string(),
        "unit-failed: broken.service (exit-code); fell back to x 1.0.0 after 2 tries"
    );
    let told = tell(fell, &account);
    assert_eq!(told.verdict, account.verdict);
    assert_eq!(told.warnings.len(), 4);
    assert!(told.warnings[1].contains("boot 2 ended after 2 s: unit-failed"));

    let silent = evidence(Verdict::Passed, Some(OLD), &[reset.clone(), reset.clone()]);
    let verdict = concluded(&silent, &left).verdict.to_string();
    assert!(
        verdict.starts_with("guest-reset: the guest restarted; fell back"),
        "{verdict}"
    );

    let both = evidence(
        failed(Kind::UnitFailed, "a.service"),
        Some(OLD),
        std::slice::from_ref(&reset),
    );
    let verdict = concluded(&both, &left).verdict.to_string();
    assert!(
        verdict.ends_with("which fails too: unit-failed: a.service"),
        "{verdict}"
    );

    let never = evidence(Verdict::Passed, Some(OLD), &[]);
    let verdict = concluded(&never, &left).verdict.to_string();
    assert!(verdict.contains("never tried 1.1.0"), "{verdict}");
}

#[test]
fn no_way_back_is_worse() {
    let panic = failed(Kind::KernelPanic, "not syncing");
    for running in [None, Some(NEW), Some([3; 32])] {
        let seen = evidence(panic.clone(), running, &[panic.clone(), panic.clone()]);
        let account = concluded(&seen, &["x_1.0.0.efi", "x_1.1.0+0-2.efi"]);
        assert_eq!(account.ending, Ending::Stuck);
        let verdict = account.verdict.to_string();
        assert_eq!(
            verdict,
            "kernel-panic: not syncing; and x 1.0.0 never came back"
        );
    }
}
