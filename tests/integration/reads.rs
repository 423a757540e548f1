//! What a boot reads, told by `baker reads`; and an image with those files side by side.

use std::fs::File;

use baker_build::anatomy::{self, RootPart, Structure};
use baker_formats::erofs::Part;
use baker_model::manifest::{FileRole, Manifest};
use baker_tests::bakery::{Locked, minimal, minimal_draft, seated};
use serde_json::Value;

#[test]
fn what_a_boot_reads_is_put_first() {
    let draft = minimal_draft();
    let command = ["--json".as_ref(), "reads".as_ref(), draft.as_os_str()];
    let only = ["--only".as_ref(), "direct".as_ref()];
    let said = seated(|| minimal().baker.ok(command.into_iter().chain(only)));
    let told: Value = serde_json::from_str(&said.stdout).unwrap();
    let first: Vec<&str> = told["first"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    for path in [
        "/usr/lib/systemd/systemd",
        "/usr/lib/systemd/systemd-journald",
    ] {
        assert!(first.contains(&path), "{first:?}");
    }
    assert!(!first.contains(&"/usr/bin/systemd-cgtop"), "{first:?}");
    // Without init's hint every block of metadata is read by itself: some 150 requests.
    let metadata = told["of"]["metadata"].as_u64().unwrap();
    assert!((1..60).contains(&metadata), "{told:#}");
    assert!(told["bytes"].as_u64().unwrap() > 4 << 20, "{told:#}");

    let listed = format!("[root]\nfirst = {first:?}\n");
    let locked = Locked::new("minimal", |text| text.replace("[root]\n", &listed));
    let draft = locked.bake(&locked.baker.home().join("drafts"));
    let manifest = std::fs::read(draft.join("manifest.json")).unwrap();
    let manifest = Manifest::parse(&manifest).unwrap();
    let disk = manifest.file(FileRole::Disk).unwrap();
    let file = File::open(draft.join(&disk.name)).unwrap();
    let map = anatomy::anatomy(&file, disk.size).unwrap();
    let mut found = Vec::new();
    for region in map.regions() {
        if let Structure::Root {
            part: RootPart::Erofs(Part::Data, Some(path)),
            ..
        } = &region.structure
        {
            found.push(path.as_str());
        }
    }
    assert_eq!(found[..first.len()], first);
}

#[test]
fn a_boot_that_cannot_be_told_is_refused() {
    let draft = minimal_draft().as_os_str();
    let said = minimal()
        .baker
        .run(["reads".as_ref(), draft, "--only".as_ref(), "bios".as_ref()]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(
        said.stderr.contains("there is no test called `bios`"),
        "{said:#?}"
    );
}
