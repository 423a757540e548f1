//! Accounts of small disks, with something planted in each.

use baker_model::tree::{Content, Kind, LastLink, Metadata, Node, Origin, TreePath};

use super::*;
use crate::anatomy::MbrPart;
use crate::inventory::Place;

fn put(tree: &mut Tree, path: &str, kind: Kind, origin: Origin) {
    let metadata = Metadata::of_root(0o644, 0);
    let node = Node {
        metadata,
        kind,
        origin,
    };
    let path = TreePath::new(path).unwrap();
    tree.ensure_parents(&path, 0).unwrap();
    tree.insert(path, node).unwrap();
}

fn text(text: &str) -> Kind {
    Kind::file(Content::inline(text))
}

/// A root with a file of a package, one of the recipe, and a link.
fn root() -> Tree {
    let mut tree = Tree::new(0);
    let package = || Origin::Package("a".into());
    put(&mut tree, "usr/tool", text("tool"), package());
    put(&mut tree, "etc/motd", text("hello"), Origin::Recipe);
    let target = b"tool".to_vec();
    put(&mut tree, "usr/link", Kind::Symlink { target }, package());
    tree
}

fn record(path: &str, owner: &str, kind: &str, content: Option<&str>) -> Record {
    Record {
        place: Place::Root,
        path: path.to_owned(),
        owner: owner.parse().unwrap(),
        kind: kind.to_owned(),
        sha256: content.map(|text| Digest::of(text.as_bytes())),
        size: None,
        target: None,
        authenticode: None,
    }
}

fn records() -> Vec<Record> {
    vec![
        record("/", "implied", "directory", None),
        record("/etc", "implied", "directory", None),
        record("/etc/motd", "recipe", "file", Some("hello")),
        record("/usr", "implied", "directory", None),
        Record {
            target: Some("tool".to_owned()),
            ..record("/usr/link", "package a", "link", None)
        },
        record("/usr/tool", "package a", "file", Some("tool")),
    ]
}

fn regions() -> Vec<Region> {
    let erofs = |part, path: Option<&str>| Structure::Root {
        partition: "root".to_owned(),
        part: RootPart::Erofs(part, path.map(str::to_owned)),
    };
    let rows = [
        (0..512, Structure::Mbr(MbrPart::Entries)),
        (512..1000, Structure::Gap),
        (1000..1100, erofs(erofs::Part::Inode, Some("/usr/tool"))),
        (1100..2000, erofs(erofs::Part::Data, Some("/usr/tool"))),
        (2000..2005, erofs(erofs::Part::Tail, Some("/etc/motd"))),
        (2005..2010, erofs(erofs::Part::Target, Some("/usr/link"))),
        (2010..4096, erofs(erofs::Part::Padding, None)),
    ];
    rows.map(|(range, structure)| Region { range, structure })
        .into()
}

fn accounted(
    root: &Tree,
    records: &[Record],
    differences: &[Range<u64>],
    shipped: Option<&Shipped>,
) -> Account {
    account(&Request {
        regions: &regions(),
        records,
        root,
        programs: &[],
        differences,
        shipped,
        pinned: &BTreeSet::from([Digest::of(b"hello")]),
    })
}

fn bytes(account: &Account, holder: &Holder, proof: Proof) -> u64 {
    let rows = account.rows.iter();
    let found = rows.filter(|row| row.holder == *holder && row.proof == proof);
    found.map(|row| row.bytes).sum()
}

#[test]
fn every_byte_has_its_holder() {
    let by_sbom = accounted(&root(), &records(), &[], None);
    assert!(by_sbom.is_good(), "{by_sbom:?}");
    let a = Holder::Package("a".to_owned());
    assert_eq!(bytes(&by_sbom, &a, Proof::Sbom), 905);
    assert_eq!(bytes(&by_sbom, &Holder::Recipe, Proof::Lock), 5);
    assert_eq!(bytes(&by_sbom, &Holder::Fill, Proof::Rebuilt), 488 + 2086);
    let mut shipped = Shipped::default();
    shipped.add_tree(&root());
    let proved = accounted(&root(), &records(), &[], Some(&shipped));
    assert!(proved.is_good(), "{proved:?}");
    assert_eq!(bytes(&proved, &a, Proof::Package), 905);
}

#[test]
fn a_planted_byte_is_named_by_its_structure() {
    let account = accounted(&root(), &records(), &[700..701, 999..1001], None);
    assert_eq!(account.accounted, account.size - 3);
    let texts: Vec<String> = account.faults.iter().map(ToString::to_string).collect();
    let follow = "do not follow from the lock and the files";
    assert_eq!(
        texts,
        [
            format!("bytes 700 to 701 (gap between partitions) {follow}"),
            format!("bytes 999 to 1000 (gap between partitions) {follow}"),
            format!("bytes 1000 to 1001 (root root EROFS inode of /usr/tool) {follow}"),
        ]
    );
}

#[test]
fn planted_files_and_owners_are_named() {
    let mut planted = root();
    put(&mut planted, "usr/backdoor", text("x"), Origin::Implied);
    let found = |root: &Tree, records: &[Record], shipped| -> Vec<String> {
        let account = accounted(root, records, &[], shipped);
        assert!(!account.is_good());
        account.faults.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        found(&planted, &records(), None),
        ["/usr/backdoor is on the disk, but not in the bill of materials"]
    );
    let mut altered = root();
    put(&mut altered, "usr/tool", text("bad!"), Origin::Implied);
    assert_eq!(
        found(&altered, &records(), None),
        ["/usr/tool has another content than the bill of materials says"]
    );
    let mut without = root();
    without.remove(&TreePath::new("etc/motd").unwrap());
    assert!(
        without
            .resolve(&TreePath::new("etc").unwrap(), LastLink::Keep)
            .is_some()
    );
    assert_eq!(
        found(&without, &records(), None),
        ["/etc/motd is in the bill of materials, but not on the disk"]
    );
    let mut lying = records();
    lying[2].owner = Owner::Package("a".into());
    lying[5].owner = Owner::Nobody;
    let mut shipped = Shipped::default();
    shipped.add_tree(&root());
    assert_eq!(
        found(&root(), &lying, Some(&shipped)),
        [
            "/etc/motd is said to be of package a, which holds nothing like it",
            "/usr/tool belongs to nobody",
        ]
    );
}
