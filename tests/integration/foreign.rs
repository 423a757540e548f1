//! Images that baker did not make, judged by `baker test`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use baker_model::Digest;
use baker_tests::bakery::seated;
use baker_tests::program::{Baker, Said};
use baker_tests::skip;

/// The image of this name that `scripts/foreign-images` made; none, said loudly, where it did not.
fn image(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("BAKER_FOREIGN_IMAGES");
    let found = folder.map(|folder| Path::new(&folder).join(name));
    if found.is_none() {
        skip(name, "run eval \"$(scripts/foreign-images)\" first");
    }
    found
}

/// Options of `baker test` and their values.
type Options<'a> = &'a [(&'a str, &'a Path)];

/// Runs `baker test` with these options and this plan.
fn test(baker: &Baker, options: Options<'_>, plan: &str) -> Said {
    let file = baker.home().join("plan.toml");
    fs::write(&file, plan).unwrap();
    let mut arguments: Vec<OsString> = vec!["test".into(), "--plan".into(), file.into()];
    for (option, value) in options {
        arguments.extend([OsString::from(option), value.into()]);
    }
    seated(|| baker.run(arguments))
}

/// The evidence of a test of an image.
fn evidence(baker: &Baker, image: &str, test: &str) -> String {
    let folder = baker.home().join("out/evidence").join(image);
    for report in ["report.html", "junit.xml"] {
        assert!(folder.join(report).is_file(), "{report}");
    }
    fs::read_to_string(folder.join(test).join("report.json")).unwrap()
}

#[test]
fn debian_13_is_judged_inside_by_a_probe_on_a_disk() {
    let Some(image) = image("debian13.qcow2") else {
        return;
    };
    let baker = Baker::new();
    let plan = r#"
[[test]]
name = "inside"
units-active = ["page.service", "systemd-networkd.service"]
units-absent = ["ssh.service"]
listening = ["tcp:80"]
modules-loaded = ["ext4"]
command-line = ["root=LABEL=foreign"]
console = ["Linux version 6."]
[[test.http]]
port = 80
path = "/index.html"
contains = "not made by baker"
[[test.command]]
run = ["/usr/bin/dpkg", "--print-architecture"]
output = "amd64"
[[test.file]]
path = "/usr/bin/su"
mode = "4755"
owner = "root"
"#;
    let said = test(&baker, &[("--image", &image)], plan);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.starts_with("inside: passed"), "{said:#?}");
    let evidence = evidence(&baker, "debian13.qcow2", "inside");
    let digest = Digest::of(&fs::read(&image).unwrap());
    assert!(evidence.contains(&format!("\"disk-before\": \"{digest}\"")));
    assert!(evidence.contains("\"probe\": \"disk\""), "{evidence}");
}

#[test]
fn debian_12_is_judged_from_outside_and_the_report_says_so() {
    let Some(image) = image("debian12.vmdk") else {
        return;
    };
    let baker = Baker::new();
    let plan = r#"
[[test]]
name = "outside"
console = ["foreign login:"]
[[test.http]]
port = 80
path = "/index.html"
contains = "not made by baker"
"#;
    let said = test(&baker, &[("--image", &image)], plan);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.contains("judged from outside"), "{said:#?}");
    let evidence = evidence(&baker, "debian12.vmdk", "outside");
    assert!(evidence.contains("\"probe\": \"outside\""), "{evidence}");
}

#[test]
fn a_cd_a_disk_and_a_bare_kernel_are_told_apart_and_boot() {
    let names = ["small.iso", "small.vhd", "small.vmlinuz", "small.initrd"];
    let [Some(iso), Some(vhd), Some(kernel), Some(initrd)] = names.map(image) else {
        return;
    };
    let plan = |firmware: &str| {
        format!("[[test]]\nfirmware = \"{firmware}\"\nconsole = [\"small system: up\"]\n")
    };
    let both = plan("bios") + &plan("uefi");
    let pair = [("--kernel", kernel.as_path()), ("--initrd", &initrd)];
    let rows: [(Options<'_>, &str, &str); 3] = [
        (&[("--image", &iso)], &both, "image of kind iso"),
        (&[("--image", &vhd)], &plan("bios"), "image of kind vhd"),
        (&pair, &plan("direct"), "kernel and initrd"),
    ];
    for (options, plan, told) in rows {
        let said = test(&Baker::new(), options, plan);
        said.assert(0, &[told]);
        let passed = said.stdout.matches(": passed").count();
        assert_eq!(passed, plan.matches("[[test]]").count(), "{said:#?}");
    }
}

#[test]
fn a_foreign_kernel_that_panics_fails() {
    let (Some(kernel), Some(initrd)) = (image("small.vmlinuz"), image("small.initrd")) else {
        return;
    };
    let options = [
        ("--kernel", kernel.as_path()),
        ("--initrd", &initrd),
        ("--append", Path::new("console=ttyS0 rdinit=/none")),
    ];
    let plan = "[[test]]\nfirmware = \"direct\"\nconsole = [\"small system: up\"]\n";
    let said = test(&Baker::new(), &options, plan);
    said.assert(6, &["failed its test", "kernel-panic"]);
}

#[test]
fn what_cannot_be_judged_is_refused_before_it_boots() {
    let baker = Baker::new();
    let home = baker.home();
    fs::write(home.join("disk.raw"), [0; 4096]).unwrap();
    let mut old = vec![0; 4096];
    old[..8].copy_from_slice(b"QFI\xfb\0\0\0\x01");
    fs::write(home.join("old.qcow"), old).unwrap();
    let mut child = vec![0; 4096];
    child[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    child[14..20].copy_from_slice(&[0x02, 0, 0, 0, 0, 11]);
    child[512..523].copy_from_slice(b"/etc/shadow");
    fs::write(home.join("child.qcow2"), child).unwrap();
    let good = "[[test]]\nconsole = [\"x\"]\n";
    let image = |name: &str| home.join(name);
    let rows: [(&str, &str, i32, &[&str]); 8] = [
        ("none.raw", good, 2, &["cannot read", "none.raw"]),
        ("old.qcow", good, 7, &["old.qcow", "version", "qemu-img"]),
        (
            "child.qcow2",
            good,
            7,
            &["backing file", "`/etc/shadow`", "help"],
        ),
        (
            "disk.raw",
            "[[test]]\nfirmwares = \"bios\"\n",
            3,
            &["plan.toml:2:1", "firmware"],
        ),
        ("disk.raw", "", 3, &["plan.toml", "[[test]]"]),
        (
            "disk.raw",
            "[[test]]\nfirmware = \"direct\"\nconsole = [\"x\"]\n",
            3,
            &["`direct`", "--kernel"],
        ),
        (
            "disk.raw",
            "[[test]]\nprobe = \"outside\"\nno-shell = true\nconsole = [\"x\"]\n",
            3,
            &["probe"],
        ),
        (
            "disk.raw",
            "[[test]]\nfirmware = \"uefi-secure\"\nconsole = [\"x\"]\n",
            3,
            &["Secure Boot"],
        ),
    ];
    for (name, plan, code, words) in rows {
        test(&baker, &[("--image", &image(name))], plan).assert(code, words);
    }
    let said = baker.run(["test", "--image", "disk.raw"]);
    said.assert(2, &["--plan"]);
    let fifo = image("pipe");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    test(&baker, &[("--image", &fifo)], good).assert(2, &["not a regular file"]);
}
