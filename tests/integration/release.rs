//! The main job, its signatures, and every way to spoil it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use baker_tests::bakery::{copy_folder, minimal, seated};
use baker_tests::program::Said;

fn key() -> PathBuf {
    let key = minimal().baker.home().join("test.key");
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let path = minimal().baker.home().join("test.key");
        minimal().baker.ok([
            "key".as_ref(),
            "new".as_ref(),
            path.as_os_str(),
            "--development".as_ref(),
        ]);
    });
    key
}

fn release(to: &Path, more: &[&str]) -> Said {
    let key = key();
    let mut args = vec![
        "release".as_ref(),
        minimal().recipe.as_os_str(),
        "--key".as_ref(),
        key.as_os_str(),
        "--to".as_ref(),
        to.as_os_str(),
    ];
    args.extend(more.iter().map(|word| std::ffi::OsStr::new(*word)));
    seated(|| minimal().baker.run(args))
}

fn verify(folder: &Path) -> Said {
    let public = key().with_extension("key.pub");
    minimal().baker.run([
        "verify".as_ref(),
        folder.as_os_str(),
        "--trust".as_ref(),
        public.as_os_str(),
    ])
}

/// Nothing but finished releases: no work folder, no partial one.
fn assert_clean(to: &Path) {
    let Ok(entries) = fs::read_dir(to) else {
        return;
    };
    for entry in entries {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with('.'), "{name} was left behind");
    }
}

#[test]
fn a_release_is_booted_signed_and_verifies_until_something_is_changed() {
    let to = minimal().baker.home().join("releases");
    let said = release(&to, &[]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let folder = to.join("minimal-1.0.0");
    assert_eq!(PathBuf::from(said.stdout.trim()), folder);
    assert_clean(&to);
    let good = verify(&folder);
    good.assert(0, &["SIGNED BY A LOCAL DEVELOPMENT KEY"]);
    for evidence in ["uefi", "direct"] {
        let report = folder.join("evidence").join(evidence).join("report.json");
        assert!(
            fs::read_to_string(report)
                .unwrap()
                .contains("\"verdict\": \"passed\"")
        );
    }
    let sums = Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(&folder)
        .status();
    assert!(sums.unwrap().success());

    release(&to, &[]).assert(8, &["is already there", "raise `version`"]);

    let spoilt = minimal().baker.home().join("spoilt");
    copy_folder(&folder, &spoilt);
    fs::write(spoilt.join("recipe.toml"), "name = \"other\"\n").unwrap();
    fs::remove_file(spoilt.join("recipe.lock")).unwrap();
    fs::write(spoilt.join("extra"), "").unwrap();
    let said = verify(&spoilt);
    said.assert(7, &["does not verify"]);
    for problem in [
        "`recipe.toml` has",
        "`recipe.lock` is missing",
        "`extra` is not named",
    ] {
        assert!(said.stderr.contains(problem), "{problem}: {said:#?}");
    }
    fs::write(spoilt.join("manifest.json"), "{").unwrap();
    verify(&spoilt).assert(7, &["manifest cannot be used"]);
    let test = minimal().baker.run(["test".as_ref(), spoilt.as_os_str()]);
    test.assert(7, &["manifest.json is corrupt"]);
}

#[test]
fn without_tests_there_is_a_waiver_or_no_release() {
    let to = minimal().baker.home().join("waived");
    let said = release(&to, &["--waive-tests", "only the bake is of interest here"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    verify(&to.join("minimal-1.0.0")).assert(0, &["waived: tests (only the bake is of interest"]);
}

#[test]
fn ctrl_c_leaves_nothing_behind_whenever_it_comes() {
    let to = minimal().baker.home().join("interrupted");
    let key = key();
    for milliseconds in [5, 60, 300, 900, 2500, 6000, 12_000] {
        seated(|| {
            let mut child = minimal()
                .baker
                .command([
                    "release".as_ref(),
                    minimal().recipe.as_os_str(),
                    "--key".as_ref(),
                    key.as_os_str(),
                    "--to".as_ref(),
                    to.as_os_str(),
                ])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            // Its first word says that it listens to signals by now.
            let mut word = [0];
            let mut stderr = child.stderr.take().unwrap();
            stderr.read_exact(&mut word).unwrap();
            child.stderr = Some(stderr);
            std::thread::sleep(Duration::from_millis(milliseconds));
            let id = child.id().to_string();
            assert!(
                Command::new("kill")
                    .args(["-INT", &id])
                    .status()
                    .unwrap()
                    .success()
            );
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(
                output.status.code(),
                Some(130),
                "{milliseconds} ms: {stderr}"
            );
            let children = Command::new("pgrep").args(["-P", &id]).output().unwrap();
            assert!(
                children.stdout.is_empty(),
                "{milliseconds} ms: a child is left"
            );
            assert_clean(&to);
            assert!(!to.join("minimal-1.0.0").exists());
        });
    }
}

#[test]
fn what_is_missing_on_the_machine_is_named_before_the_long_work() {
    let to = minimal().baker.home().join("nowhere");
    let key = key();
    let run = |variable: &str, value: &str| {
        let args = [
            "release".as_ref(),
            minimal().recipe.as_os_str(),
            "--key".as_ref(),
            key.as_os_str(),
            "--to".as_ref(),
            to.as_os_str(),
        ];
        let mut command = minimal().baker.command(args);
        baker_tests::program::said(&command.env(variable, value).output().unwrap())
    };
    run("PATH", "/nonexistent").assert(9, &["qemu", "apt-get install"]);
    run("BAKER_QEMU", "/nonexistent/qemu").assert(9, &["/nonexistent/qemu"]);
    run("BAKER_OVMF_CODE", "/nonexistent/code").assert(9, &["BAKER_OVMF"]);
    assert!(!to.exists() || fs::read_dir(&to).unwrap().next().is_none());
}
