//! The database as written, and as dpkg reads it.

use std::path::Path;
use std::process::{Command, Output};

use super::*;
use crate::assemble::fixture::{EPOCH, Fixture, Store, store};

/// The assembled root of these packages, their database in it; written to `folder` when there is one.
fn recorded(packages: &[Fixture], written: Option<&Path>) -> Assembled {
    let (lock, store): (_, Store) = store(packages);
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::new(folder.path()).unwrap();
    let mut assembled = crate::assemble::fixture::run_in(&lock, &store, &spool).unwrap();
    record(&mut assembled, &spool, EPOCH).unwrap();
    if let Some(written) = written {
        write(&assembled.tree, &spool, written);
    }
    assembled
}

fn text(assembled: &Assembled, path: &str) -> String {
    match &assembled
        .tree
        .get(&TreePath::new(path).unwrap())
        .map(|node| &node.kind)
    {
        Some(Kind::File {
            content: Content::Inline(bytes),
            ..
        }) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{path} is {other:?}"),
    }
}

#[test]
fn a_stanza_is_as_dpkg_writes_it() {
    let package = Fixture::new("b")
        .field("Homepage: h")
        .field("Description: short\n long")
        .field("Depends: a")
        .field("Multi-Arch: same")
        .member("conffiles", "/etc/x\nremove-on-upgrade /etc/gone\n")
        .directory("./etc/", 0o755)
        .file("./etc/x", "hello\n")
        .file("./y", [0; 5000]);
    let got = recorded(&[Fixture::new("c"), package], None);
    let expected = "Package: b\nStatus: install ok installed\nArchitecture: amd64\n\
        Multi-Arch: same\nVersion: 1.0\nDepends: a\nConffiles:\n \
        /etc/x b1946ac92492d2347c6235b4d2611184\nDescription: short\n long\nHomepage: h\n\n\
        Package: c\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.0\n\n";
    assert_eq!(text(&got, "var/lib/dpkg/status"), expected);
    assert_eq!(
        text(&got, "var/lib/dpkg/info/b:amd64.list"),
        "/.\n/etc\n/etc/x\n/y\n"
    );
    assert_eq!(
        text(&got, "var/lib/dpkg/info/b:amd64.md5sums"),
        "6bf95a48f366bdf8af3a198c7b723c77  y\n",
        "made here, as the package has none"
    );
    let at = |path| got.tree.get(&TreePath::new(path).unwrap()).unwrap();
    let (one, two) = (
        at("var/lib/dpkg/status"),
        at("usr/share/factory/var/lib/dpkg/status"),
    );
    assert!(matches!(one.kind, Kind::File { link: Some(_), .. }));
    assert_eq!(one, two);
    assert_eq!(at("var/lib/dpkg/updates").kind, Kind::Directory);
}

fn write(tree: &Tree, spool: &Spool, folder: &Path) {
    for (path, node) in tree.walk() {
        let at = folder.join(std::str::from_utf8(path.as_bytes()).unwrap());
        match &node.kind {
            Kind::Directory => std::fs::create_dir_all(at).unwrap(),
            Kind::File { content, .. } => std::fs::write(at, spool.read(content).unwrap()).unwrap(),
            other => panic!("{path} is {other:?}"),
        }
    }
}

/// Runs dpkg on `root`; none, loudly, where there is no dpkg.
fn dpkg(root: &Path, arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new("dpkg");
    command
        .arg(format!("--root={}", root.display()))
        .args(arguments)
        .env("LC_ALL", "C");
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if std::env::var_os("BAKER_STRICT").is_none() => {
            eprintln!("SKIPPED: dpkg cannot judge the package database: {error}");
            None
        }
        Err(error) => panic!("dpkg is needed as a judge: {error}"),
    }
}

#[test]
fn dpkg_reads_it_and_sees_what_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let same = Fixture::new("libb")
        .field("Maintainer: M <m@example.org>")
        .field("Description: short\n long")
        .field("Multi-Arch: same")
        .member("conffiles", "/etc/x\n")
        .directory("./etc/", 0o755)
        .file("./etc/x", "hello\n")
        .file("./y", [0; 5000]);
    let plain = Fixture::new("c")
        .field("Maintainer: M <m@example.org>")
        .field("Description: other")
        .file("./z", "z");
    recorded(&[plain, same], Some(folder.path()));
    let text = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    let Some(listed) = dpkg(folder.path(), &["-l"]) else {
        return;
    };
    assert!(listed.stderr.is_empty(), "{listed:?}");
    let lines: Vec<String> = text(&listed).lines().map(str::to_owned).collect();
    assert_eq!(
        lines.iter().filter(|line| line.starts_with("ii  ")).count(),
        2,
        "{lines:?}"
    );
    let owner = dpkg(folder.path(), &["-S", "/y"]).unwrap();
    assert_eq!(text(&owner), "libb:amd64: /y\n");
    let sound = dpkg(folder.path(), &["--verify"]).unwrap();
    assert!(
        sound.status.success() && sound.stdout.is_empty(),
        "{sound:?}"
    );
    std::fs::write(folder.path().join("etc/x"), "changed").unwrap();
    std::fs::write(folder.path().join("z"), "changed").unwrap();
    let changed = text(&dpkg(folder.path(), &["--verify"]).unwrap());
    assert!(
        changed.contains("c /etc/x\n") && changed.contains("  /z\n"),
        "{changed}"
    );
}
