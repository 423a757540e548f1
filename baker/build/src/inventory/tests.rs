//! Inventories of tiny images.

use baker_model::Silent;
use baker_model::tree::{Content, Metadata, TreePath};

use super::*;
use crate::assemble::fixture::{Fixture, store};
use crate::{Assembled, Spool, assemble};

const RECIPE: &str = "name = \"tiny\"\nversion = \"1.2.3\"\n[debian]\nsuite = \"trixie\"\n\
    packages = []\n[kernel]\npackage = \"linux\"\n";

const COPYRIGHT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
    Upstream-Name: tiny\n\nFiles: *\nCopyright: 2020 A\nLicense: GPL-2+ or Expat\n\n\
    # a comment\nFiles: b\nCopyright: B\nLicense: BSD\n Do as\n .\n you like.\n\n\
    License: Expat\n Permission is granted\n";

fn assembled(packages: &[Fixture], spool: &Spool) -> Assembled {
    let (lock, inputs) = store(packages);
    assemble::assemble(assemble::Request {
        lock: &lock,
        inputs: &inputs,
        keep: None,
        spool,
        threads: NonZeroUsize::MIN,
        limits: assemble::Limits::default(),
        clashes: assemble::Clashes::default(),
        listener: &Silent,
        interrupt: &Interrupt::new(),
    })
    .unwrap()
}

fn listed(tree: &Tree, spool: &Spool, more: &str) -> Result<Vec<Item>, InventoryError> {
    files(Request {
        tree,
        contents: spool,
        recipe: &Recipe::parse(&format!("{RECIPE}{more}")).unwrap(),
        threads: NonZeroUsize::new(3).unwrap(),
        interrupt: &Interrupt::new(),
    })
}

fn put(tree: &mut Tree, path: &str, kind: Kind, origin: Origin) {
    let metadata = Metadata::of_root(0o644, 0);
    let node = Node {
        metadata,
        kind,
        origin,
    };
    tree.insert(TreePath::new(path).unwrap(), node).unwrap();
}

#[test]
fn every_node_has_owner_and_digests() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::new(folder.path()).unwrap();
    let large = vec![7; 300_000];
    let package = Fixture::new("a")
        .directory("./usr/", 0o755)
        .file("./usr/large", &large)
        .symlink("./usr/link", "large");
    let mut tree = assembled(&[package], &spool).tree;
    let text = |text: &str| Kind::file(Content::inline(text));
    put(&mut tree, "motd", text("hello"), Origin::Recipe);
    put(&mut tree, "cache", text(""), Origin::Effect("loader-cache"));
    let items = listed(&tree, &spool, "").unwrap();
    let owner = |path: &str| {
        let item = items.iter().find(|item| item.path == path).unwrap();
        (item.owner.to_string(), item.what.clone())
    };
    let a = "package a".to_owned();
    assert_eq!(
        owner("/usr/large"),
        (a.clone(), What::File(Fingerprint::of(&large)))
    );
    assert_eq!(
        owner("/usr/link"),
        (a.clone(), What::Symlink("large".to_owned()))
    );
    assert_eq!(owner("/usr"), (a, What::Directory));
    assert_eq!(owner("/motd").0, "recipe");
    assert_eq!(owner("/cache").0, "effect loader-cache");
    assert_eq!(items.len(), tree.len());
    for item in &items {
        assert_eq!(item.owner.to_string().parse(), Ok(item.owner.clone()));
    }
    // `echo -n hello | sha1sum`
    let print = Fingerprint::of(b"hello");
    assert_eq!(print.sha1[..4], [0xaa, 0xf4, 0xc6, 0x1d]);
}

#[test]
fn files_of_nobody_count_against_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::new(folder.path()).unwrap();
    let mut tree = Tree::new(0);
    for index in 0..12 {
        let kind = Kind::file(Content::inline("?"));
        put(
            &mut tree,
            &format!("stray-{index:02}"),
            kind,
            Origin::Implied,
        );
    }
    let error = listed(&tree, &spool, "").unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("12 files belong to nobody, 0 may: /stray-00, /stray-01"),
        "{text}"
    );
    assert!(text.ends_with("/stray-09, ..."), "{text}");
    assert!(error.hint().unwrap().ends_with("unowned-files = 12"));
    assert!(listed(&tree, &spool, "[sbom]\nunowned-files = 11\n").is_err());
    let items = listed(&tree, &spool, "[sbom]\nunowned-files = 12\n").unwrap();
    assert_eq!(
        items
            .iter()
            .filter(|item| item.owner == Owner::Nobody)
            .count(),
        12
    );
}

#[test]
fn packages_tell_source_maintainer_and_licence() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::new(folder.path()).unwrap();
    let doc = "./usr/share/doc";
    let one = Fixture::new("a")
        .field("Source: tiny (1:0.9)")
        .field("Maintainer: Tiny Team <tiny@example.org>")
        .field("Description: small\n and long")
        .directory("./usr/share/doc/", 0o755)
        .file(&format!("{doc}/a/copyright"), COPYRIGHT);
    let other = Fixture::new("b").symlink(&format!("{doc}/b"), "a");
    let plain = Fixture::new("c").file(&format!("{doc}/c/copyright"), "Free as in beer.\n");
    let all = assembled(&[one, other, plain], &spool);
    let packages = inventory(Vec::new(), &texts(&all, &spool).unwrap()).packages;
    let [a, b, c] = &packages[..] else {
        panic!("{packages:?}");
    };
    assert_eq!(
        (a.source.as_str(), a.source_version.as_str()),
        ("tiny", "1:0.9")
    );
    assert_eq!((b.source.as_str(), b.source_version.as_str()), ("b", "1.0"));
    assert_eq!(
        (a.maintainer.as_str(), a.summary.as_str()),
        ("Tiny Team <tiny@example.org>", "small")
    );
    let (id, (name, text)) = a.licensing.others.first_key_value().unwrap();
    assert!(id.starts_with("LicenseRef-Debian-BSD-"), "{id}");
    assert_eq!(
        (name.as_str(), text.as_str()),
        ("BSD", "Do as\n\nyou like.")
    );
    let expression = format!("(GPL-2.0-or-later OR MIT) AND {id}");
    assert_eq!(a.licensing.expression.as_deref(), Some(&*expression));
    assert_eq!(a.licensing, b.licensing, "a shared folder");
    let (id, (_, text)) = c.licensing.others.first_key_value().unwrap();
    assert!(id.starts_with("LicenseRef-Debian-copyright-"), "{id}");
    assert_eq!(text, "Free as in beer.");
    assert_eq!(c.licensing.expression.as_ref(), Some(id));
}
