//! Damage that somebody notices, damage that does not matter, and damage that nobody notices.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use baker_tests::bakery::{Locked, seated};
use baker_tests::program::{Baker, Said, program, said};

/// A file that no system reads: only a check of every block sees damage in it.
const BALLAST: &str = "\n[[file]]\npath = \"/usr/share/ballast\"\n\
                       content = \"Nobody reads this, so nobody misses it.\\n\"\n";

/// Makes a key, bakes, and publishes untested: the drill boots by itself.
fn release(locked: &Locked, options: &[&str]) -> PathBuf {
    let baker = &locked.baker;
    baker.ok(["key", "new", "test.key", "--development"]);
    let mut args = vec!["release".as_ref(), locked.recipe.as_os_str()];
    let fixed = ["--key", "test.key", "--waive-tests", "drilled instead"];
    args.extend(fixed.iter().chain(options).map(std::ffi::OsStr::new));
    let said = baker.ok(args);
    baker.home().join(said.stdout.trim())
}

fn drill(baker: &Baker, release: &Path, options: &[&str]) -> Said {
    let mut args = vec!["drill".as_ref(), release.as_os_str()];
    let trust = ["--trust", "test.key.pub"];
    args.extend(trust.iter().chain(options).map(std::ffi::OsStr::new));
    seated(|| baker.run(args))
}

#[test]
fn every_layer_refuses_what_is_its_own() {
    let locked = Locked::with_secure_boot("minimal", |text| text + BALLAST);
    let keys = [
        "key",
        "secure-boot",
        "keys",
        "--owner",
        "us",
        "--development",
    ];
    locked.baker.ok(keys);
    let release = release(&locked, &["--secure-boot", "keys"]);
    let before = fs::read(release.join("minimal_1.0.0.raw")).unwrap();

    // All files and all signatures, several bytes each: no boot is needed.
    let files = ["manifest", "SHA256SUMS", "recipe", "test-result", ".cer"];
    let mut options = vec!["--per-structure", "8"];
    options.extend(files.iter().flat_map(|name| ["--only", *name]));
    let said = drill(&locked.baker, &release, &options);
    assert_eq!(said.code, Some(0), "{said:#?}");
    for structure in ["manifest.json.sig signature 1", "test-result.intoto.json"] {
        assert!(said.stdout.contains(structure), "{said:#?}");
    }
    assert!(said.stdout.contains(" 0 harmless, 0 accepted"), "{said:#?}");

    let structures = [
        "section .cmdline",
        "of /usr/share/ballast",
        "backup GPT header",
    ];
    let options: Vec<_> = structures
        .iter()
        .flat_map(|name| ["--only", *name])
        .collect();
    let said = drill(&locked.baker, &release, &options);
    assert_eq!(said.code, Some(0), "{said:#?}");
    for answer in ["firmware 1", "verity 2", "0 accepted"] {
        assert!(said.stdout.contains(answer), "{answer}: {said:#?}");
    }
    let kept = locked.baker.home().join("out/evidence/drill");
    let report = fs::read_to_string(kept.join("drill.json")).unwrap();
    assert!(report.contains("\"verify-refuses\": true"), "{report}");
    assert!(kept.join("drill.md").exists());
    assert!(before == fs::read(release.join("minimal_1.0.0.raw")).unwrap());
}

/// A baker whose guest has dm-verity report damage and go on.
fn careless(home: &Path) -> PathBuf {
    const CAREFUL: &[u8] = b" 1 panic_on_corruption";
    const CARELESS: &[u8] = b" 1 ignore_corruption  ";
    let mut bytes = fs::read(program()).unwrap();
    let found = |at: &usize| bytes[*at..].starts_with(CAREFUL);
    // The same words may stand in what is there for debuggers.
    let places: Vec<_> = (0..bytes.len()).filter(found).collect();
    assert!(!places.is_empty(), "the guest's word for dm-verity");
    for place in places {
        bytes[place..place + CAREFUL.len()].copy_from_slice(CARELESS);
    }
    let path = home.join("careless");
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn damage_that_verity_ignores_is_seen_by_the_probe() {
    let locked = Locked::new("minimal", |text| {
        // The kernel would say on the console what it found and ignored.
        text.replace("\"quiet\"", "\"quiet\", \"loglevel=1\"") + BALLAST
    });
    let baker = &locked.baker;
    baker.ok(["key", "new", "test.key", "--development"]);
    let careless = careless(baker.home());
    let run = |args: &[&str]| {
        let like = baker.command(args.iter());
        let mut command = Command::new(&careless);
        let environment = like
            .get_envs()
            .filter_map(|(key, value)| Some((key, value?)));
        command.args(args).env_clear().envs(environment);
        seated(|| said(&command.current_dir(baker.home()).output().unwrap()))
    };
    let recipe = locked.recipe.to_str().unwrap();
    let steps: [&[&str]; 2] = [
        &["lock", "--refresh", recipe],
        &[
            "release",
            recipe,
            "--key",
            "test.key",
            "--waive-tests",
            "drilled",
        ],
    ];
    for step in steps {
        let done = run(step);
        assert_eq!(done.code, Some(0), "{done:#?}");
    }
    let release = ["out/releases/minimal-1.0.0", "--trust", "test.key.pub"];
    let verified = run(&[&["verify"], &release[..]].concat());
    assert_eq!(verified.code, Some(0), "{verified:#?}");
    let only = ["--only", "tail of /usr/share/ballast"];
    let said = run(&[&["drill"], &release[..], &only].concat());
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.contains("1 refused (probe 1)"), "{said:#?}");
}
