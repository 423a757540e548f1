//! A small release to play with.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use baker_model::lock::{
    ArchiveLock, FileLock, GuestLock, IndexLock, LOCK_VERSION, Lock, PackageLock, PackageRole,
};
use baker_model::manifest::{
    Builder, FileRole, MANIFEST_VERSION, PackageFact, ReleaseFile, Source, TestFact,
};
use baker_model::plan::TestPlan;
use baker_model::{Digest, Interrupt, Manifest, Silent, Verdict};

use crate::{Draft, Key, Purpose, Report, Signed, Trust, verify};

/// Name, role and content of every file of the fixture.
fn files() -> [(&'static str, FileRole, Vec<u8>); 5] {
    [
        ("disk.raw", FileRole::Disk, vec![0xa5; 5000]),
        (
            "evidence/uefi.json",
            FileRole::Evidence,
            b"{\"boots\":true}\n".to_vec(),
        ),
        ("recipe.lock", FileRole::Lock, lock().to_text().into_bytes()),
        (
            "recipe.toml",
            FileRole::Recipe,
            b"name = \"minimal\"\n".to_vec(),
        ),
        ("uki.efi", FileRole::Uki, b"MZ not really\n".to_vec()),
    ]
}

/// A lock with something of every kind.
pub(crate) fn lock() -> Lock {
    let package = |name: &str, role| PackageLock {
        name: name.to_owned(),
        version: "1:2.0+b1".to_owned(),
        architecture: "amd64".to_owned(),
        role,
        archive: "debian".to_owned(),
        path: format!("pool/main/{name}.deb"),
        size: 7,
        sha256: Digest::of(name.as_bytes()),
    };
    Lock {
        version: LOCK_VERSION,
        recipe: Digest::of(b"recipe"),
        epoch: 1_700_000_000,
        guest: GuestLock {
            size: 5,
            sha256: Digest::of(b"guest"),
        },
        files: vec![FileLock {
            path: "files/a".to_owned(),
            size: 1,
            sha256: Digest::of(b"a"),
        }],
        archives: vec![ArchiveLock {
            suite: "trixie".to_owned(),
            archive: "debian".to_owned(),
            date: 1_700_000_000,
            inrelease: Digest::of(b"inrelease"),
            signed_by: vec!["ABCD".to_owned()],
            indexes: vec![IndexLock {
                path: "main/binary-amd64/Packages.xz".to_owned(),
                size: 9,
                sha256: Digest::of(b"index"),
            }],
        }],
        packages: vec![
            package("libc++", PackageRole::Root),
            package("linux", PackageRole::Kernel),
        ],
        layers: Vec::new(),
        stages: Vec::new(),
    }
}

/// The signing key of most tests: fixed, so that failures repeat.
pub(crate) fn key() -> Key {
    Key::from_seed("release", Purpose::Release, &[7; 32])
}

/// Trusts [`key`].
pub(crate) fn trust() -> Trust {
    Trust::of([key().public()])
}

/// Puts the files of the fixture into `folder`.
pub(crate) fn stage(folder: &Path) -> Manifest {
    for (name, _, content) in files() {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    manifest()
}

/// The manifest of the fixture.
pub(crate) fn manifest() -> Manifest {
    let root_hash = Digest::of(b"root");
    let file = |(name, role, content): (&str, FileRole, Vec<u8>)| ReleaseFile {
        name: name.to_owned(),
        role,
        size: content.len() as u64,
        sha256: Digest::of(&content),
    };
    Manifest {
        manifest_version: MANIFEST_VERSION,
        name: "minimal".to_owned(),
        version: "1.0.0".to_owned(),
        architecture: "amd64".to_owned(),
        epoch: 1_700_000_000,
        recipe: Digest::of(b"recipe"),
        lock: lock().digest(),
        source: Some(Source {
            commit: "c0ffee".to_owned(),
            dirty: false,
        }),
        baker: Builder {
            version: "0.1.0".to_owned(),
            guest: Digest::of(b"guest"),
            program: Some(Digest::of(b"baker")),
        },
        stages: vec!["assemble".to_owned(), "disk".to_owned()],
        root_hash,
        command_line: format!("console=ttyS0 baker.roothash={root_hash}"),
        secure_boot: None,
        files: files().map(file).to_vec(),
        packages: vec![PackageFact {
            name: "systemd".to_owned(),
            version: "257".to_owned(),
            architecture: "amd64".to_owned(),
            sha256: Digest::of(b"deb"),
        }],
        plans: vec![TestPlan::default()],
        tests: vec![TestFact {
            name: "uefi".to_owned(),
            verdict: Verdict::Passed,
            disk: Digest::of(&[0xa5; 5000]),
            milliseconds: 9000,
            evidence: "evidence/uefi.json".to_owned(),
            warnings: Vec::new(),
        }],
        waivers: Vec::new(),
        hygiene: None,
    }
}

/// Stages and signs the fixture in `folder`.
pub(crate) fn signed(folder: &Path) -> Signed {
    let manifest = stage(folder);
    let draft = Draft::new(folder.to_owned(), manifest);
    draft.sign(&key(), &Silent, &Interrupt::new()).unwrap()
}

/// A signed release under its right name, in a folder that goes when dropped.
pub(crate) fn release() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("minimal-1.0.0");
    std::fs::create_dir(&path).unwrap();
    drop(signed(&path));
    (folder, path)
}

/// Verifies with the trust of the fixture.
pub(crate) fn verified(folder: &Path) -> Report {
    verify(folder, &trust(), &Silent, &Interrupt::new()).unwrap()
}

/// Problems as people see them.
pub(crate) fn problems(report: &Report) -> Vec<String> {
    report.problems.iter().map(ToString::to_string).collect()
}

/// Runs a foreign judge; none, loudly, when it is not installed. Then BAKER_STRICT=1 fails.
pub(crate) fn judge(folder: &Path, program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
    {
        Ok(output) => Some(output),
        Err(error) => {
            skip(&format!("{program} cannot be run: {error}"));
            None
        }
    }
}

/// Says that a test is left out; with BAKER_STRICT=1 that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(
        std::env::var_os("BAKER_STRICT").is_none_or(|value| value != "1"),
        "{why}"
    );
    eprintln!("SKIPPED: {why}");
}
