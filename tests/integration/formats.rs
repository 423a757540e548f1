//! Every form of disk and root, made by one bake of the real archive, judged and booted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use baker_tests::bakery::{Locked, seated};
use baker_tests::skip;

/// What the recipe gets beside its own tables.
const TABLES: &str = r#"
[disk]
formats = ["qcow2", "vmdk", "vhd", "vhd-fixed", "iso", "netboot", "tar", "oci"]

[[test]]
name = "qcow2"
format = "qcow2"

[[test]]
name = "vmdk"
format = "vmdk"

[[test]]
name = "vhd"
format = "vhd"

[[test]]
name = "vhd-fixed"
format = "vhd-fixed"

[[test]]
name = "cd"
format = "iso"

[[test]]
name = "stick"
format = "iso"
disk-bus = "nvme"

[[test]]
name = "netboot"
format = "netboot"
firmware = "direct"
root-readable = true

[[test]]
name = "netboot-uki"
format = "netboot"
"#;

/// `recipes/minimal` with every format, and its draft, baked once.
fn baked() -> &'static (Locked, PathBuf) {
    static BAKED: OnceLock<(Locked, PathBuf)> = OnceLock::new();
    BAKED.get_or_init(|| {
        let locked = Locked::new("minimal", |text| text + TABLES);
        let draft = locked.bake(&locked.baker.home().join("drafts"));
        (locked, draft)
    })
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn one_thread_bakes_the_same_bytes_of_every_format() {
    let (locked, draft) = baked();
    let to = locked.baker.home().join("again");
    let said = locked.baker.ok([
        "bake".as_ref(),
        locked.recipe.as_os_str(),
        "--threads".as_ref(),
        "1".as_ref(),
        "--to".as_ref(),
        to.as_os_str(),
    ]);
    let again = Path::new(said.stdout.trim());
    let expected = [
        "manifest.json",
        "minimal_1.0.0.cdx.json",
        "minimal_1.0.0.efi",
        "minimal_1.0.0.fixed.vhd",
        "minimal_1.0.0.iso",
        "minimal_1.0.0.netboot.efi",
        "minimal_1.0.0.netboot.initrd",
        "minimal_1.0.0.oci.tar",
        "minimal_1.0.0.qcow2",
        "minimal_1.0.0.raw",
        "minimal_1.0.0.spdx.json",
        "minimal_1.0.0.tar.gz",
        "minimal_1.0.0.vhd",
        "minimal_1.0.0.vmdk",
        "minimal_1.0.0.vmlinuz",
        "recipe.lock",
        "recipe.toml",
    ];
    assert_eq!(names(draft), expected);
    for name in expected {
        let (one, other) = (fs::read(draft.join(name)), fs::read(again.join(name)));
        assert!(one.unwrap() == other.unwrap(), "{name} differs");
    }
    fs::remove_dir_all(again).unwrap();
}

#[test]
fn qemu_reads_the_same_disk_from_every_image() {
    let (_, draft) = baked();
    let raw = draft.join("minimal_1.0.0.raw");
    for (ending, driver) in [
        ("qcow2", "qcow2"),
        ("vmdk", "vmdk"),
        ("vhd", "vpc"),
        ("fixed.vhd", "vpc"),
    ] {
        let image = draft.join(format!("minimal_1.0.0.{ending}"));
        let compared = Command::new("qemu-img")
            .args(["compare", "-f", driver, "-F", "raw"])
            .args([&image, &raw])
            .output();
        let Ok(compared) = compared else {
            return skip("qemu_reads_the_same_disk", "qemu-img is not installed");
        };
        assert!(compared.status.success(), "{ending}: {compared:?}");
    }
}

/// With BAKER_FORMATS=all those forms, too, that QEMU boots as it boots qcow2.
#[test]
fn qcow2_cd_stick_and_netboot_boot() {
    let (locked, draft) = baked();
    let evidence = locked.baker.home().join("evidence");
    let all = std::env::var_os("BAKER_FORMATS").is_some_and(|value| value == "all");
    let more = if all {
        &["vmdk", "vhd", "vhd-fixed"][..]
    } else {
        &[]
    };
    for plan in ["qcow2", "cd", "stick", "netboot", "netboot-uki"]
        .iter()
        .chain(more)
    {
        let said = seated(|| {
            locked.baker.run([
                "test".as_ref(),
                draft.as_os_str(),
                "--only".as_ref(),
                plan.as_ref(),
                "--evidence".as_ref(),
                evidence.as_os_str(),
            ])
        });
        assert_eq!(said.code, Some(0), "{plan}: {said:#?}");
        assert!(said.stdout.contains(": passed"), "{plan}: {said:#?}");
    }
}

#[test]
fn a_format_that_the_initrd_is_not_made_for_is_refused() {
    let locked = baker_tests::bakery::minimal();
    let said = locked.baker.run([
        "bake".as_ref(),
        locked.recipe.as_os_str(),
        "--format".as_ref(),
        "netboot".as_ref(),
        "--to".as_ref(),
        locked.baker.home().join("refused").as_os_str(),
    ]);
    said.assert(
        3,
        &["needs the module loop", "add \"netboot\" to `formats`"],
    );
}
