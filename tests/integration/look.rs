//! Looking into disks, comparing them, and baking a release again.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use baker_build::anatomy::anatomy;
use baker_model::manifest::FileRole;
use baker_model::{Digest, Manifest};
use baker_tests::bakery::{Locked, minimal, minimal_draft};
use baker_tests::program::Said;
use baker_tests::skip;

fn run(words: &[&OsStr]) -> Said {
    minimal().baker.run(words.iter().copied())
}

#[test]
fn a_draft_is_looked_into_without_mounting() {
    let draft = minimal_draft().as_os_str();
    let said = run(&["inspect".as_ref(), draft]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    for words in [
        "table gpt",
        "root       erofs",
        "Debian GNU/Linux 13",
        "roothash=",
        "systemd",
    ] {
        assert!(said.stdout.contains(words), "{words}: {said:#?}");
    }
    let cat = run(&[
        "inspect".as_ref(),
        draft,
        "--cat".as_ref(),
        "/etc/os-release".as_ref(),
    ]);
    assert!(cat.stdout.contains("\nID=debian\n"), "{cat:#?}");
    let list = run(&[
        "inspect".as_ref(),
        draft,
        "--files".as_ref(),
        "/usr/bin/mount".as_ref(),
    ]);
    let line = list.stdout.trim();
    assert!(
        line.starts_with("- ") && line.ends_with("/usr/bin/mount  [mount]"),
        "{list:#?}"
    );
    run(&["inspect".as_ref(), draft, "--cat".as_ref(), "/no".as_ref()])
        .assert(2, &["there is no /no in the root"]);
}

/// The disk in another format, by QEMU's own tool; none without it.
fn converted(disk: &Path, format: &str) -> Option<PathBuf> {
    let target = minimal().baker.home().join(format!("converted.{format}"));
    let made = Command::new("qemu-img")
        .args(["convert", "-c", "-fraw", "-O", format])
        .arg(disk)
        .arg(&target)
        .status();
    match made {
        Ok(status) => {
            assert!(status.success());
            Some(target)
        }
        Err(_) => {
            skip("a_disk_is_equal_to_itself", "qemu-img is not installed");
            None
        }
    }
}

#[test]
fn a_disk_is_equal_to_itself_in_another_format_and_differs_from_its_recipe_by_nothing() {
    let draft = minimal_draft();
    let disk = draft.join("minimal_1.0.0.raw");
    let compared = |from: &Path, to: &Path| {
        run(&[
            "diff".as_ref(),
            from.as_os_str(),
            to.as_os_str(),
            "--exit-code".as_ref(),
        ])
    };
    if let Some(other) = converted(&disk, "qcow2") {
        compared(draft, &other).assert(0, &[]);
    }
    compared(draft, &minimal().recipe).assert(0, &[]);
    let page = minimal().baker.home().join("page.html");
    let changed = minimal().baker.home().join("changed");
    fs::create_dir(&changed).unwrap();
    let text = fs::read_to_string(minimal().recipe.join("recipe.toml")).unwrap();
    let text = text.replacen("version = \"1.0.0\"", "version = \"1.0.1\"", 1);
    fs::write(changed.join("recipe.toml"), text).unwrap();
    fs::copy(
        minimal().recipe.join("recipe.lock"),
        changed.join("recipe.lock"),
    )
    .unwrap();
    let said = compared(&minimal().recipe, &changed);
    said.assert(12, &["differ"]);
    assert!(
        said.stdout.contains("~ version: \"1.0.0\" -> \"1.0.1\""),
        "{said:#?}"
    );
    let html: [&OsStr; 3] = ["diff".as_ref(), minimal().recipe.as_ref(), changed.as_ref()];
    run(&[&html[..], &["--html".as_ref(), page.as_os_str()]].concat()).assert(0, &[]);
    assert!(
        fs::read_to_string(page)
            .unwrap()
            .contains("<svg class=\"map wide\"")
    );
}

#[test]
fn a_signed_release_is_baked_again_without_its_keys_and_is_the_same() {
    // With a local file, which must come from the store: the recipe's folder is removed.
    let entry = "\n[[file]]\npath = \"/usr/share/note\"\nsource = \"README.md\"\n";
    let locked = Locked::with_secure_boot("minimal", |text| format!("{text}{entry}"));
    let baker = &locked.baker;
    baker.ok(["key", "new", "a.key", "--development"]);
    baker.ok([
        "key",
        "secure-boot",
        "boot",
        "--owner",
        "x",
        "--development",
    ]);
    let args = ["release".as_ref(), locked.recipe.as_os_str()];
    let more = [
        "--key",
        "a.key",
        "--secure-boot",
        "boot",
        "--to",
        "releases",
    ]
    .map(OsStr::new);
    let waive = ["--waive-tests", "only its bytes matter here"].map(OsStr::new);
    baker.ok(args.into_iter().chain(more).chain(waive));
    fs::remove_dir_all(&locked.recipe).unwrap();
    let report = baker.ok([
        "verify",
        "releases/minimal-1.0.0",
        "--trust",
        "a.key.pub",
        "--rebuild",
        "--json",
    ]);
    let last = report.stdout.lines().last().unwrap();
    let report: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(report["agrees"], true, "{report:#}");
    let disk = report["files"]
        .as_array()
        .unwrap()
        .iter()
        .find(|file| file["role"] == "disk");
    let disk = disk.unwrap();
    assert_eq!(disk["release"], disk["rebuilt"], "{report:#}");
}

/// A disk that its own inputs do not give: somebody changed it before it was signed.
#[test]
fn a_signed_disk_that_its_inputs_do_not_give_is_named_by_its_first_difference() {
    let baker = &minimal().baker;
    baker.ok(["key", "new", "changed.key", "--development"]);
    let draft = crate::gate::copied(baker.home(), "before-signing");
    let path = draft.join("minimal_1.0.0.raw");
    let disk = File::options().read(true).write(true).open(&path).unwrap();
    let map = anatomy(&disk, disk.metadata().unwrap().len()).unwrap();
    let mut regions = map.regions().iter();
    let inode = regions.find(|region| {
        region
            .structure
            .to_string()
            .ends_with("EROFS inode of /etc/hostname")
    });
    let at = inode.unwrap().range.start + 4;
    let mut mode = [0; 1];
    disk.read_exact_at(&mut mode, at).unwrap();
    disk.write_all_at(&[mode[0] ^ 0o22], at).unwrap();
    let file = draft.join("manifest.json");
    let mut manifest = Manifest::parse(&fs::read(&file).unwrap()).unwrap();
    let entry = manifest
        .files
        .iter_mut()
        .find(|file| file.role == FileRole::Disk);
    entry.unwrap().sha256 = Digest::of(&fs::read(&path).unwrap());
    fs::write(&file, manifest.to_bytes()).unwrap();
    let sign = ["--key", "changed.key", "--to", "changed-releases"].map(OsStr::new);
    let said = baker.ok(["sign".as_ref(), draft.as_os_str()].into_iter().chain(sign));
    let verify = ["verify", said.stdout.trim(), "--trust", "changed.key.pub"];
    baker.ok(verify);
    let said = baker.run(verify.iter().chain(&["--rebuild"]));
    said.assert(7, &["EROFS inode", "/etc/hostname", "mode"]);
}
