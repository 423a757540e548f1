//! Documents of a small inventory.

use std::collections::BTreeSet;

use baker_model::lock::PackageRole;
use serde_json::Value;

use super::*;
use crate::PackageText;
use crate::assemble::fixture::{Fixture, store};
use crate::inventory::{Fingerprint, Item, Owner, Place, What, inventory};

const RECIPE: &str = "name = \"tiny\"\nversion = \"1.2.3\"\nsummary = \"small\"\n[debian]\n\
    suite = \"trixie\"\npackages = []\n[kernel]\npackage = \"linux\"\n";

fn items() -> Vec<Item> {
    let file = |bytes: &[u8]| What::File(Fingerprint::of(bytes));
    let package = || Owner::Package("libx++".into());
    vec![
        Item::new(Place::Root, "/usr", Owner::Implied, What::Directory),
        Item::new(Place::Root, "/usr/ü", package(), file(b"x")),
        Item::new(
            Place::Root,
            "/usr/l",
            package(),
            What::Symlink("x".to_owned()),
        ),
        Item::new(Place::Root, "/motd", Owner::Recipe, file(b"m")),
        Item::new(Place::Initrd, "/init", Owner::Guest, file(b"guest")),
        Item::new(
            Place::Esp,
            "uki",
            Owner::Effect("uki".to_owned()),
            What::Program(Fingerprint::of(b"u"), Digest::of(b"a")),
        ),
    ]
}

fn documents() -> Documents {
    let (lock, _) = store(&[
        Fixture::new("libx++"),
        Fixture::new("linux").role(PackageRole::Kernel),
    ]);
    let text = |package: &baker_model::lock::PackageLock| PackageText {
        lock: package.clone(),
        control: "Package: x\nSource: x (1:2~3)\nMaintainer: A Team <a@example.org>\n".to_owned(),
        copyright: None,
    };
    let texts: Vec<PackageText> = lock.packages.iter().map(text).collect();
    sbom(Request {
        recipe: &Recipe::parse(RECIPE).unwrap(),
        lock: &lock,
        inventory: &inventory(items(), &texts),
        os_release: b"ID=debian\nVERSION_ID=\"13\"\n",
        baker_version: "0.1.0",
    })
}

#[test]
fn the_files_come_back() {
    let mut expected = items();
    let mut found = read(&documents().cyclonedx).unwrap();
    found.sort_by(|a, b| (a.place, &a.path).cmp(&(b.place, &b.path)));
    expected.sort();
    assert_eq!(found.len(), expected.len());
    for (record, item) in found.iter().zip(&expected) {
        assert_eq!((record.place, &record.path), (item.place, &item.path));
        assert_eq!(record.owner, item.owner);
        assert_eq!(record.sha256, item.fingerprint().map(|print| print.sha256));
        assert_eq!(record.size, item.fingerprint().map(|print| print.size));
    }
    let uki = found.iter().find(|record| record.path == "uki").unwrap();
    assert_eq!(uki.authenticode, Some(Digest::of(b"a")));
    let link = found.iter().find(|record| record.path == "/usr/l").unwrap();
    assert_eq!(
        (link.kind.as_str(), link.target.as_deref()),
        ("link", Some("x"))
    );
}

#[test]
fn what_is_no_document_of_ours_is_refused() {
    let text = String::from_utf8(documents().cyclonedx).unwrap();
    let rows = [
        (
            "\"specVersion\": \"1.6\"",
            "\"specVersion\": \"1.5\"",
            "CycloneDX 1.5",
        ),
        (
            "\"value\": \"recipe\"",
            "\"value\": \"martians\"",
            "names no owner of /motd",
        ),
        (
            "\"baker:place\"",
            "\"baker:spot\"",
            "does not say the place",
        ),
        ("{", "[", "cannot parse"),
    ];
    for (from, to, words) in rows {
        let changed = text.replacen(from, to, 1);
        let error = read(changed.as_bytes()).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn both_documents_name_every_package_and_are_the_same_every_time() {
    let first = documents();
    assert_eq!(first, documents());
    let spdx: Value = serde_json::from_slice(&first.spdx).unwrap();
    let cyclonedx: Value = serde_json::from_slice(&first.cyclonedx).unwrap();
    let purl = "pkg:deb/debian/libx%2B%2B@1.0?arch=amd64&distro=trixie&upstream=x%401:2~3";
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages = spdx["packages"].as_array().unwrap();
    let reference = |package: &Value| text(&package["externalRefs"][0]["referenceLocator"]);
    let one: BTreeSet<String> = packages.iter().map(reference).collect();
    let components = cyclonedx["components"].as_array().unwrap();
    let other: BTreeSet<String> = components.iter().map(|c| text(&c["purl"])).collect();
    assert_eq!(one, other);
    assert!(one.contains(purl), "{one:?}");
    assert_eq!(spdx["creationInfo"]["created"], "1970-01-12T13:46:40Z");
    assert_eq!(spdx["packages"][0]["filesAnalyzed"], true);
    assert_eq!(
        spdx["packages"][1]["originator"],
        "Organization: A Team (a@example.org)"
    );
    let files = spdx["files"].as_array().unwrap();
    let names: Vec<String> = files.iter().map(|file| text(&file["fileName"])).collect();
    assert_eq!(names, ["./motd", "./usr/ü", "./.initrd/init", "./.esp/uki"]);
    let ids = packages
        .iter()
        .chain(files)
        .map(|value| text(&value["SPDXID"]));
    assert_eq!(
        ids.collect::<BTreeSet<_>>().len(),
        packages.len() + files.len()
    );
}

#[test]
fn dates_are_those_of_the_calendar() {
    for (day, date) in [
        (0, (1970, 1, 1)),
        (-1, (1969, 12, 31)),
        (11_016, (2000, 2, 29)),
        (20_454, (2026, 1, 1)),
    ] {
        assert_eq!(civil(day), date);
    }
}
