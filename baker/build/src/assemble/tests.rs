//! What comes out of tiny packages.

use baker_model::tree::{Content, Kind, LinkGroup, Node, TreePath};
use baker_model::{Interrupt, Silent};

use super::fixture::{EPOCH, Fixture, run, run_with, store, tar_entry};
use super::*;
use crate::Script;

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn node<'a>(assembled: &'a Assembled, at: &str) -> &'a Node {
    assembled
        .tree
        .get(&path(at))
        .unwrap_or_else(|| panic!("no {at}"))
}

fn content(assembled: &Assembled, at: &str) -> Vec<u8> {
    match &node(assembled, at).kind {
        Kind::File {
            content: Content::Inline(bytes),
            ..
        } => bytes.to_vec(),
        other => panic!("{at} is {other:?}"),
    }
}

fn assembled(packages: &[Fixture]) -> Assembled {
    let (lock, store) = store(packages);
    run(&lock, &store).unwrap()
}

fn refused(packages: &[Fixture]) -> AssembleError {
    let (lock, store) = store(packages);
    run(&lock, &store).expect_err("these packages must be refused")
}

fn base_files() -> Fixture {
    ["bin", "lib"].into_iter().fold(
        Fixture::new("base-files")
            .directory("./usr/", 0o755)
            .directory("./usr/bin/", 0o755),
        |package, name| package.symlink(&format!("./{name}"), &format!("usr/{name}")),
    )
}

#[test]
fn every_attribute_arrives() {
    let xattr = b"33 SCHILY.xattr.security.capab=x\n";
    let all = Fixture::new("all")
        .member("postinst", "#!/bin/sh\n")
        .member("conffiles", "/etc/x\n")
        .entry("./setuid-new", b'0', 0o4755, "", b"su")
        .raw(&tar_entry("./pax", b'x', 0, "", xattr))
        .file("./capable", "c")
        .file("./big", [7; 10_000])
        .entry("./null", b'3', 0o666, "", b"")
        .entry("./disk", b'4', 0o660, "", b"")
        .entry("./pipe", b'6', 0o600, "", b"")
        .symlink("./link", "../x");
    let got = assembled(&[all]);
    let setuid = &node(&got, "setuid-new").metadata;
    assert_eq!(
        (setuid.mode, setuid.uid, setuid.gid, setuid.mtime),
        (0o4755, 10, 11, EPOCH)
    );
    assert_eq!(node(&got, "capable").metadata.mtime, 2000);
    assert_eq!(
        node(&got, "capable").metadata.xattrs[&b"security.capab"[..]],
        b"x"
    );
    assert!(node(&got, "null").metadata.xattrs.is_empty());
    assert_eq!(
        node(&got, "null").kind,
        Kind::CharDevice { major: 5, minor: 1 }
    );
    assert_eq!(
        node(&got, "disk").kind,
        Kind::BlockDevice { major: 5, minor: 1 }
    );
    assert_eq!(node(&got, "pipe").kind, Kind::Fifo);
    assert_eq!(
        node(&got, "link").kind,
        Kind::Symlink {
            target: b"../x".to_vec()
        }
    );
    let big = Kind::file(Content::Extern {
        digest: baker_model::Digest::of(&[7; 10_000]),
        size: 10_000,
    });
    assert_eq!(node(&got, "big").kind, big);
    let package = &got.packages[0];
    assert_eq!(package.scripts[&Script::Postinst], b"#!/bin/sh\n");
    assert_eq!(package.members.keys().collect::<Vec<_>>(), ["conffiles"]);
    assert_eq!(package.paths.len(), 8);
    assert!(package.control.starts_with("Package: all\n"));
}

#[test]
fn usr_is_merged_whatever_the_names_are() {
    let early = Fixture::new("aaa")
        .directory("./bin/", 0o700)
        .file("./bin/x", "x");
    let late = Fixture::new("zzz")
        .directory("./lib/", 0o700)
        .file("./lib/deep/y", "y");
    let got = assembled(&[late, base_files(), early]);
    assert_eq!(content(&got, "usr/bin/x"), b"x");
    assert_eq!(content(&got, "usr/lib/deep/y"), b"y");
    assert_eq!(
        node(&got, "bin").kind,
        Kind::Symlink {
            target: b"usr/bin".to_vec()
        }
    );
    assert_eq!(
        node(&got, "usr/bin").metadata.mode,
        0o755,
        "the first directory's mode stays"
    );
    assert_eq!(
        node(&got, "usr/lib").metadata.mode,
        0o700,
        "nobody had shipped it before"
    );
    let names: Vec<_> = got
        .packages
        .iter()
        .map(|package| package.lock.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["aaa", "base-files", "zzz"],
        "packages come in the order of the lock"
    );
}

#[test]
fn a_path_seen_through_an_alias_is_the_same_path() {
    let one = Fixture::new("one").file("./bin/x", "1");
    let two = Fixture::new("two")
        .file("./usr/bin/x", "2")
        .file("./usr/bin/y", "2");
    let error = refused(&[base_files(), one, two]);
    assert_eq!(
        error.to_string(),
        "packages ship the same paths: /usr/bin/x (one and two)"
    );
    let twice = Fixture::new("one")
        .file("./bin/x", "1")
        .file("./usr/bin/x", "1");
    let error = refused(&[base_files(), twice]).to_string();
    assert!(
        error.ends_with("the package ships /usr/bin/x twice"),
        "{error}"
    );
}

#[test]
fn replaces_decides_in_either_order() {
    for (old, new) in [("a", "b"), ("b", "a")] {
        let packages = |line: &str| {
            let old = Fixture::new(old).file("./x", "old").file("./keep", "k");
            [old, Fixture::new(new).field(line).file("./x", "new")]
        };
        let got = assembled(&packages(&format!("Replaces: {old} (<< 2)")));
        assert_eq!(content(&got, "x"), b"new");
        assert_eq!(content(&got, "keep"), b"k");
        let error = refused(&packages(&format!("Replaces: {old} (<< 1.0)")));
        assert!(matches!(error, AssembleError::Conflicts { .. }), "{error}");
    }
}

#[test]
fn directories_and_other_things_do_not_mix() {
    let directory = || Fixture::new("a").directory("./x/", 0o755).file("./x/y", "");
    let error = refused(&[directory(), Fixture::new("b").file("./x", "")]).to_string();
    assert!(error.ends_with("/x (a and b)"), "{error}");
    let error = refused(&[Fixture::new("a").file("./x", ""), {
        Fixture::new("b").directory("./x/", 0o755)
    }]);
    assert!(error.to_string().ends_with("/x (a and b)"), "{error}");
    // As in dpkg, a symlink gives way to a directory that is there.
    let got = assembled(&[directory(), Fixture::new("b").symlink("./x", "else")]);
    assert_eq!(node(&got, "x").kind, Kind::Directory);
}

#[test]
fn hard_links_share_a_group_while_partners_last() {
    let three = Fixture::new("b")
        .file("./p", "same")
        .hard_link("./q", "./p")
        .hard_link("./r", "./q")
        .file("./s", "lone")
        .hard_link("./t", "s");
    let thief = Fixture::new("c").field("Replaces: b").file("./t", "mine");
    let got = assembled(&[three, thief]);
    for name in ["p", "q", "r"] {
        let Kind::File { link, .. } = node(&got, name).kind else {
            panic!("{name}")
        };
        assert_eq!(link, Some(LinkGroup(0)), "{name}");
    }
    assert!(matches!(
        node(&got, "s").kind,
        Kind::File { link: None, .. }
    ));
    assert_eq!(content(&got, "t"), b"mine");
}

#[test]
fn hostile_entries_are_refused_with_their_place() {
    let a = || Fixture::new("a");
    let rows = [
        (a().file("./../x", ""), "climbs out"),
        (
            a().symlink("./d", "../../etc").file("./d/x", ""),
            "/d above it leaves the root",
        ),
        (
            a().symlink("./d", "d").file("./d/x", ""),
            "round in a circle",
        ),
        (
            a().file("./d", "").file("./d/x", ""),
            "/d above it is no directory",
        ),
        (a().hard_link("./x", "./y"), "hard link to `./y`"),
        (a().hard_link("./x", "/etc/../../y"), "hard link to"),
        (a().file("./x", "").file("./x", ""), "ships /x twice"),
    ];
    for (package, words) in rows {
        let error = refused(&[package]).to_string();
        assert!(error.starts_with("package a: entry `"), "{error}");
        assert!(
            error.contains(" at byte ") && error.contains(words),
            "{error} / {words}"
        );
    }
    // Absolute symlinks are of the image, never of the host.
    let got = assembled(&[a().symlink("./d", "/etc").file("./d/x", "inside")]);
    assert_eq!(content(&got, "etc/x"), b"inside");
}

#[test]
fn altered_files_are_told_from_broken_ones() {
    let package = || Fixture::new("a").file("./x", "hello");
    let (lock, mut good) = store(&[package()]);
    let digest = lock.packages[0].sha256;
    let whole = good.0[&digest].clone();
    let mut flipped = whole.clone();
    *flipped
        .iter_mut()
        .rev()
        .find(|byte| **byte == b'h')
        .unwrap() ^= 1;
    let longer = [&whole[..], b"x"].concat();
    for (bytes, size) in [
        (whole[..whole.len() - 700].to_vec(), whole.len() - 700),
        (Vec::new(), 0),
        (flipped, whole.len()),
        (longer, whole.len() + 1),
    ] {
        good.0.insert(digest, bytes);
        let error = run(&lock, &good).expect_err("it is altered");
        let words = format!(
            "expected {} bytes with SHA-256 {digest}, found {size} bytes",
            whole.len()
        );
        assert!(error.to_string().contains(&words), "{error}");
        assert!(
            error
                .to_string()
                .starts_with("package a (pool/a.deb) is not what"),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("`baker fetch`"));
    }
    good.0.clear();
    let error = run(&lock, &good).unwrap_err();
    assert!(matches!(error, AssembleError::Input { .. }), "{error}");
    let error = refused(&[package().raw(&[1; 512])]);
    assert!(matches!(error, AssembleError::Broken { .. }), "{error}");
}

#[test]
fn a_package_must_be_the_one_it_is_locked_as() {
    let (mut lock, store) = store(&[Fixture::new("a")]);
    lock.packages[0].version = "2.0".to_owned();
    let error = run(&lock, &store).unwrap_err().to_string();
    assert!(
        error.contains("says Version `1.0`, the lock says `2.0`"),
        "{error}"
    );
}

#[test]
fn absurd_sizes_are_refused() {
    let packages = [
        Fixture::new("a").file("./x", [0; 3000]),
        Fixture::new("b").file("./y", [0; 3000]),
    ];
    let (lock, store) = store(&packages);
    let check = |limits, words: &str| {
        let error = run_with(&lock, &store, 1, limits).unwrap_err();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text += &format!(": {cause}");
            source = cause.source();
        }
        assert!(text.contains(words), "{text} / {words}");
    };
    check(
        Limits {
            total_bytes: 5000,
            ..Limits::default()
        },
        "together are too large",
    );
    check(
        Limits {
            package_bytes: 2000,
            ..Limits::default()
        },
        "more than 2000 bytes",
    );
    check(
        Limits {
            entries: 1,
            ..Limits::default()
        },
        "more than 1 entries",
    );
}

#[test]
fn thread_count_changes_nothing_and_an_interrupt_ends_it() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let packages = names.map(|name| {
        Fixture::new(name)
            .file(&format!("./{name}"), [b'x'; 9000])
            .hard_link(&format!("./{name}2"), &format!("./{name}"))
            .directory("./shared/", 0o700)
    });
    let (lock, store) = store(&packages);
    let one = run_with(&lock, &store, 1, Limits::default()).unwrap();
    let eight = run_with(&lock, &store, 8, Limits::default()).unwrap();
    assert_eq!(one.tree, eight.tree);
    let folder = tempfile::tempdir().unwrap();
    let interrupt = Interrupt::new();
    interrupt.raise();
    let stopped = assemble(Request {
        lock: &lock,
        inputs: &store,
        keep: None,
        spool: &Spool::new(folder.path()).unwrap(),
        threads: NonZeroUsize::MIN,
        limits: Limits::default(),
        clashes: Clashes::default(),
        listener: &Silent,
        interrupt: &interrupt,
    });
    assert!(matches!(stopped, Err(AssembleError::Interrupted)));
}
