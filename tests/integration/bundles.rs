//! Bundles: the same release again from one file, and from no other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use baker_model::Lock;
use baker_tests::program::{Said, said};
use baker_tests::skip;

use crate::evidence::{locked, manifest, new_key, release, verify};

fn bundled(to: &Path) -> PathBuf {
    let path = to.join("minimal.bundle");
    let args = [
        "bundle".as_ref(),
        release().folder.as_os_str(),
        "-o".as_ref(),
        path.as_os_str(),
        "--trust".as_ref(),
        release().public.as_os_str(),
    ];
    locked().baker.ok(args);
    path
}

/// `baker release --from-bundle` with an empty store, without a network where that can be had.
fn from_bundle(bundle: &Path, to: &Path, trust: &Path) -> Said {
    let inner = locked().baker.command([
        "release".as_ref(),
        "--from-bundle".as_ref(),
        bundle.as_os_str(),
        "--to".as_ref(),
        to.as_os_str(),
        "--trust".as_ref(),
        trust.as_os_str(),
        "--key".as_ref(),
        release().key.as_os_str(),
        "--waive-tests".as_ref(),
        "only its evidence is of interest".as_ref(),
    ]);
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let mut command = match is_root {
        true => {
            let mut unshare = Command::new("unshare");
            unshare
                .arg("--net")
                .arg(inner.get_program())
                .args(inner.get_args());
            unshare
        }
        false => {
            skip("from_bundle", "only root can make a network namespace");
            let mut plain = Command::new(inner.get_program());
            plain.args(inner.get_args());
            plain
        }
    };
    let environment = inner
        .get_envs()
        .filter_map(|(key, value)| Some((key, value?)));
    command
        .env_clear()
        .envs(environment)
        .env("BAKER_STORE", to.join("store"));
    said(&command.output().unwrap())
}

#[test]
fn a_bundle_makes_the_same_release_again_without_network_and_boot_key() {
    let scratch = tempfile::tempdir().unwrap();
    let (one, other) = (scratch.path().join("one"), scratch.path().join("other"));
    fs::create_dir_all(&one).unwrap();
    fs::create_dir_all(&other).unwrap();
    let bundle = bundled(&one);
    let again = fs::read(bundled(&other)).unwrap();
    assert!(
        fs::read(&bundle).unwrap() == again,
        "two bundles of one release differ"
    );
    let said = from_bundle(&bundle, &one, &release().public);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let made = PathBuf::from(said.stdout.trim());
    // Signed by the same key, for the same reason: everything is the same, signatures included.
    let named = manifest(&release().folder).files;
    let signed = [
        "manifest.json",
        "manifest.json.sig",
        "provenance.intoto.json",
    ];
    for name in named.iter().map(|file| file.name.as_str()).chain(signed) {
        let same =
            fs::read(made.join(name)).unwrap() == fs::read(release().folder.join(name)).unwrap();
        assert!(same, "{name} differs");
    }
    verify(&made, &[]).assert(0, &[]);

    let stranger = new_key(&other, "stranger").with_extension("key.pub");
    from_bundle(&bundle, &other, &stranger)
        .assert(7, &["does not verify", "no trusted key signed"]);
    assert!(!other.join("minimal-1.0.0").exists());
}

#[test]
fn a_damaged_bundle_is_refused_by_the_name_of_the_member() {
    let scratch = tempfile::tempdir().unwrap();
    let bytes = fs::read(bundled(scratch.path())).unwrap();
    let plain = zstd::decode_all(&bytes[..]).unwrap();
    let lock = Lock::parse(&fs::read_to_string(release().folder.join("recipe.lock")).unwrap());
    let package = &lock.unwrap().packages[0];
    let name = format!("inputs/{}", package.sha256);
    let header = plain
        .chunks(512)
        .position(|block| block.starts_with(name.as_bytes()))
        .unwrap();
    let mut altered = plain.clone();
    altered[header * 512 + 512 + 100] ^= 1;
    let mut longer = plain.clone();
    longer.truncate(plain.len() - 1024);
    longer.extend_from_slice(&plain[header * 512..header * 512 + 1024]);
    let packed = |plain: &[u8]| zstd::encode_all(plain, 1).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    let rows = [
        ("altered", packed(&altered), format!("`{name}` was altered")),
        (
            "cut before",
            packed(&plain[..header * 512]),
            format!("`{name}` is "),
        ),
        (
            "cut inside",
            packed(&plain[..header * 512 + 700]),
            format!("`{name}` is damaged"),
        ),
        (
            "longer",
            packed(&longer),
            "holds more than its index".to_owned(),
        ),
        ("flipped", flipped, "`inputs/".to_owned()),
        ("no bundle", b"PK".to_vec(), "cannot be used".to_owned()),
    ];
    for (what, bytes, words) in rows {
        let path = scratch.path().join(what);
        fs::write(&path, bytes).unwrap();
        let unusable = format!("the bundle {} cannot be used", path.display());
        let said = from_bundle(&path, scratch.path(), &release().public);
        assert!(said.stderr.contains(&words), "{what}: {said:#?}");
        said.assert(7, &[&unusable]);
    }
    assert!(!scratch.path().join("minimal-1.0.0").exists());
}
