//! Firmware that knows the keys of a release starts what they signed, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use baker_model::Digest;
use baker_model::manifest::Manifest;
use baker_tests::bakery::{Locked, copy_folder, seated};
use baker_tests::program::Said;

/// `recipes/minimal` as it is, its disk with this many slots.
fn locked(slots: u8) -> Locked {
    Locked::with_secure_boot("minimal", |text| {
        let text = match slots {
            // Boots are counted by the loader's own services.
            2 => text.replace("\"dbus\"]", "\"dbus\", \"systemd-boot\"]"),
            _ => text,
        };
        format!("{text}\n[disk]\nslots = {slots}\n")
    })
}

fn one_slot() -> &'static Locked {
    static LOCKED: OnceLock<Locked> = OnceLock::new();
    LOCKED.get_or_init(|| locked(1))
}

/// A folder of keys, made once.
fn keys(name: &'static str) -> PathBuf {
    static KEYS: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = KEYS.lock().unwrap();
    let baker = &one_slot().baker;
    let folder = baker.home().join(name);
    if !folder.exists() {
        let words = ["key", "secure-boot", name, "--owner", name, "--development"];
        baker.ok(words);
    }
    folder
}

/// Bakes with these keys, or with none.
fn bake(locked: &Locked, to: &str, keys: Option<&Path>) -> PathBuf {
    let mut args = vec!["bake".as_ref(), locked.recipe.as_os_str()];
    args.extend(["--to".as_ref(), std::ffi::OsStr::new(to)]);
    if let Some(keys) = keys {
        args.extend(["--secure-boot".as_ref(), keys.as_os_str()]);
    }
    let said = locked.baker.ok(args);
    if keys.is_none() {
        assert!(said.stderr.contains("nothing is signed"), "{said:#?}");
    }
    locked.baker.home().join(said.stdout.trim())
}

fn boot(locked: &Locked, draft: &Path) -> Said {
    let args = ["test".as_ref(), draft.as_os_str()];
    let only = ["--only", "uefi-secure"].map(std::ffi::OsStr::new);
    seated(|| locked.baker.run(args.into_iter().chain(only)))
}

/// A copy of `draft` that claims the keys of `signed`: its firmware knows those.
fn claiming(draft: &Path, signed: &Path, name: &str) -> PathBuf {
    let copy = draft.parent().unwrap().join(name);
    copy_folder(draft, &copy);
    let read = |folder: &Path| Manifest::parse(&fs::read(folder.join("manifest.json")).unwrap());
    let (mut manifest, other) = (read(&copy).unwrap(), read(signed).unwrap());
    manifest.secure_boot = other.secure_boot;
    fs::write(copy.join("manifest.json"), manifest.to_bytes()).unwrap();
    drop(fs::remove_dir_all(copy.join("secure-boot")));
    copy_folder(&signed.join("secure-boot"), &copy.join("secure-boot"));
    copy
}

/// What the judge says of a program; none when it is not installed.
fn sbverify(program: &Path, certificate: &Path) -> Option<bool> {
    let found = Command::new("sbverify")
        .arg("--cert")
        .args([certificate, program])
        .output();
    if found.is_err() {
        baker_tests::skip("sbverify", "the judge of signatures is not installed");
    }
    found.ok().map(|output| output.status.success())
}

#[test]
fn what_is_signed_boots_enforced_through_loader_and_uki() {
    let two = locked(2);
    let draft = bake(&two, "signed", Some(&keys("ours")));
    let said = boot(&two, &draft);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.starts_with("uefi-secure: passed"), "{said:#?}");
    let report = two
        .baker
        .home()
        .join("out/evidence/minimal-1.0.0/uefi-secure/report.json");
    let report = fs::read_to_string(report).unwrap();
    assert!(
        report.contains("the firmware enforces Secure Boot"),
        "{report}"
    );

    // The loader of a draft without keys is refused before anything else runs.
    let unsigned = bake(&two, "unsigned", None);
    let claims = claiming(&unsigned, &draft, "claims");
    boot(&two, &claims).assert(6, &["firmware-refused"]);
}

#[test]
fn unsigned_and_strange_ukis_are_refused() {
    let locked = one_slot();
    let signed = bake(locked, "signed", Some(&keys("ours")));
    let uki = |draft: &Path| draft.join("minimal_1.0.0.efi");
    for (draft, name) in [
        (bake(locked, "unsigned", None), "claims-unsigned"),
        (
            bake(locked, "strange", Some(&keys("stranger"))),
            "claims-strange",
        ),
    ] {
        let own = sbverify(&uki(&draft), &keys("ours").join("db.crt"));
        assert_ne!(own, Some(true));
        let claims = claiming(&draft, &signed, name);
        boot(locked, &claims).assert(6, &["firmware-refused"]);
    }
    assert_ne!(
        sbverify(&uki(&signed), &keys("ours").join("db.crt")),
        Some(false)
    );

    // The same lock and the same key: the same bytes.
    let again = bake(locked, "again", Some(&keys("ours")));
    for name in ["minimal_1.0.0.raw", "minimal_1.0.0.efi", "manifest.json"] {
        let digest = |folder: &Path| Digest::of(&fs::read(folder.join(name)).unwrap());
        assert_eq!(digest(&again), digest(&signed), "{name}");
    }
    let without = bake(locked, "plain", None);
    let said = boot(locked, &without);
    said.assert(
        2,
        &["is not signed for Secure Boot", "baker key secure-boot"],
    );
}

#[test]
fn a_release_wants_keys_and_its_signatures_are_checked() {
    let locked = one_slot();
    let baker = &locked.baker;
    baker.ok(["key", "new", "release.key", "--development"]);
    let release = |more: &[&str]| {
        let recipe = locked.recipe.to_str().unwrap();
        let words = [
            "release",
            recipe,
            "--key",
            "release.key",
            "--waive-tests",
            "bytes only",
        ];
        baker.run(words.iter().chain(more))
    };
    release(&[]).assert(2, &["asks for Secure Boot", "baker key secure-boot"]);
    let ours = keys("ours");
    let said = release(&["--secure-boot", ours.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let folder = baker.home().join(said.stdout.trim());
    let verify = |folder: &Path| {
        let trust = ["--trust", "release.key.pub"].map(std::ffi::OsStr::new);
        baker.run(
            ["verify".as_ref(), folder.as_os_str()]
                .into_iter()
                .chain(trust),
        )
    };
    verify(&folder).assert(0, &[]);

    let stranger = bake(locked, "verified", Some(&keys("stranger")));
    let spoilt = baker.home().join("spoilt");
    copy_folder(&folder, &spoilt);
    for name in ["minimal_1.0.0.efi", "minimal_1.0.0.raw"] {
        fs::copy(stranger.join(name), spoilt.join(name)).unwrap();
    }
    let said = verify(&spoilt);
    said.assert(7, &["does not verify"]);
    for name in ["minimal_1.0.0.efi", "/EFI/BOOT/BOOTX64.EFI"] {
        let words = format!("`{name}` would be refused by Secure Boot");
        assert!(said.stderr.contains(&words), "{words}: {said:#?}");
    }
    assert!(said.stderr.contains("signed by `stranger db"), "{said:#?}");
}
