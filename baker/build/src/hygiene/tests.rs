//! Each rule is shown to fire, and to keep quiet about what is as it should be.

use std::num::NonZeroUsize;

use baker_model::Interrupt;
use baker_model::plan::Day;
use baker_model::recipe::{Hygiene, HygieneWaive};
use baker_model::tree::{Content, Kind, Metadata, Node, Origin, TreePath};

use super::*;

fn day(text: &str) -> Day {
    Day::try_from(text.to_owned()).unwrap()
}

/// A root with nothing wrong with it.
fn clean() -> Tree {
    let mut tree = Tree::new(7);
    for (path, mode, text) in [
        (
            "etc/passwd",
            0o644,
            "root:x:0:0::/root:/bin/bash\nweb:*:9:9::/:/x\n",
        ),
        (
            "etc/shadow",
            0o640,
            "root:*:1::::::\nweb:!:1::::::\nold:!!:1::::::\n",
        ),
        ("etc/gshadow", 0o640, "web:!::\nmail:::\n"),
        ("etc/machine-id", 0o444, ""),
        (
            "etc/ssh/ssh_host_ed25519_key.pub",
            0o644,
            "ssh-ed25519 AAAA\n",
        ),
        ("usr/bin/mount", 0o4755, "ELF"),
        ("usr/bin/systemctl", 0o755, "ELF"),
        ("usr/share/bash", 0o755, "no program to call by name"),
        ("var/log/README", 0o644, "see journalctl\n"),
        ("var/log/wtmp", 0o664, ""),
        (
            "etc/app.conf",
            0o644,
            "password = changeme\ntoken_endpoint = https://example.org/\n",
        ),
    ] {
        add(&mut tree, path, mode, text);
    }
    let sticky = Node {
        metadata: Metadata::of_root(0o1777, 7),
        kind: Kind::Directory,
        origin: Origin::Implied,
    };
    tree.insert(path("tmp"), sticky).unwrap();
    tree
}

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn add(tree: &mut Tree, at: &str, mode: u16, text: &str) {
    let node = Node {
        metadata: Metadata::of_root(mode, 7),
        kind: Kind::file(Content::inline(text)),
        origin: Origin::Recipe,
    };
    tree.ensure_parents(&path(at), 7).unwrap();
    tree.insert(path(at), node).unwrap();
}

fn looked_at(tree: &Tree, terms: &Hygiene, last_size: Option<u64>) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let contents = Spool::new(folder.path()).unwrap();
    hygiene(Request {
        tree,
        contents: &contents,
        terms,
        day: day("2026-11-22"),
        last_size,
        threads: NonZeroUsize::new(3).unwrap(),
        interrupt: &Interrupt::new(),
    })
    .unwrap()
}

fn open(tree: &Tree) -> Vec<Finding> {
    looked_at(tree, &Hygiene::default(), None).open
}

/// A private key that belongs to nobody: written in pieces, so that this file holds none.
fn private_key() -> String {
    let kind = "PRIVATE KEY";
    format!("first\n-----BEGIN {kind}-----\nMC4CAQAwBQYDK2VwBCIEIN\n-----END {kind}-----\n")
}

#[test]
fn nothing_is_said_of_a_clean_root() {
    assert_eq!(open(&clean()), []);
}

#[test]
fn every_rule_of_ours_fires() {
    let token = format!("see ghp_{}\n", "0123456789abcdefghijABCDEFGHIJ012345");
    let rows: [(&str, &str, u16, &str); 18] = [
        (
            "secret/private-key",
            "etc/tls/server.key",
            0o600,
            &private_key(),
        ),
        ("secret/github-pat", "root/notes", 0o600, &token),
        ("ssh-host-key", "etc/ssh/ssh_host_rsa_key", 0o600, "x"),
        (
            "machine-id",
            "etc/machine-id",
            0o444,
            "0123456789abcdef0123456789abcdef\n",
        ),
        (
            "machine-id",
            "var/lib/dbus/machine-id",
            0o444,
            "0123456789abcdef\n",
        ),
        ("random-seed", "var/lib/systemd/random-seed", 0o600, "x"),
        (
            "password",
            "etc/shadow",
            0o640,
            "root:*:1::::::\nadmin:$y$j9T$x$y:1::::::\n",
        ),
        ("password", "etc/shadow", 0o640, "root::1::::::\n"),
        ("password", "etc/passwd", 0o644, "root::0:0::/:/x\n"),
        ("world-writable", "etc/cron.d/x", 0o666, "x"),
        ("setuid", "usr/bin/helper", 0o4755, "x"),
        ("setuid", "usr/bin/helper", 0o2755, "x"),
        ("shell", "usr/bin/dash", 0o755, "x"),
        ("package-manager", "usr/bin/apt-get", 0o755, "x"),
        ("debugger", "usr/bin/gdb", 0o755, "x"),
        ("log", "var/log/dpkg.log", 0o644, "x"),
        ("cache", "var/cache/apt/pkgcache.bin", 0o644, "x"),
        ("cache", "var/lib/apt/lists/x", 0o644, "x"),
    ];
    for (rule, at, mode, text) in rows {
        let mut tree = clean();
        add(&mut tree, at, mode, text);
        let found = open(&tree);
        assert_eq!(found.len(), 1, "{rule} {at}: {found:?}");
        assert_eq!((found[0].rule.as_str(), &found[0].path), (rule, &path(at)));
        let told = found[0].to_string();
        assert!(
            !told.contains("MC4CAQ") && !told.contains("ghp_0") && !told.contains("$y$"),
            "{told}"
        );
        assert!(told.starts_with(&format!("{rule}: /{at}")), "{told}");
    }
    let mut tree = clean();
    add(&mut tree, "etc/tls/server.key", 0o600, &private_key());
    assert_eq!(open(&tree)[0].line, Some(2));
    let open_folder = tree.get_mut(&path("tmp")).unwrap();
    open_folder.metadata.mode = 0o777;
    assert_eq!(open(&tree).len(), 2);
}

#[test]
fn a_link_to_a_shell_is_one_and_binary_files_are_left_alone() {
    let mut tree = clean();
    let link = Node {
        metadata: Metadata::of_root(0o777, 7),
        kind: Kind::Symlink {
            target: b"dash".to_vec(),
        },
        origin: Origin::Recipe,
    };
    tree.insert(path("usr/bin/sh"), link).unwrap();
    assert_eq!(open(&tree)[0].rule, "shell");
    let mut tree = clean();
    add(
        &mut tree,
        "usr/lib/x.so",
        0o644,
        &format!("\0{}", private_key()),
    );
    assert_eq!(open(&tree), []);
}

#[test]
fn large_files_are_read_from_the_spool() {
    let folder = tempfile::tempdir().unwrap();
    let contents = Spool::new(folder.path()).unwrap();
    let text = "filler\n".repeat(2000) + &private_key();
    let content = contents
        .add(&mut text.as_bytes(), text.len() as u64)
        .unwrap();
    let mut tree = clean();
    add(&mut tree, "etc/large", 0o644, "");
    tree.get_mut(&path("etc/large")).unwrap().kind = Kind::file(content);
    let report = hygiene(Request {
        tree: &tree,
        contents: &contents,
        terms: &Hygiene::default(),
        day: day("2026-11-22"),
        last_size: None,
        threads: NonZeroUsize::MIN,
        interrupt: &Interrupt::new(),
    });
    let report = report.unwrap();
    assert_eq!(report.open[0].line, Some(2002));
}

#[test]
fn what_the_recipe_allows_is_no_finding() {
    let mut tree = clean();
    add(&mut tree, "usr/bin/dash", 0o755, "x");
    add(&mut tree, "usr/bin/helper", 0o4755, "x");
    add(&mut tree, "srv/drop", 0o666, "x");
    assert_eq!(open(&tree).len(), 3);
    let terms = Hygiene {
        setuid: vec!["/usr/bin/help*".to_owned()],
        world_writable: vec!["/srv/**".to_owned()],
        tools: vec!["/usr/bin/{dash,sh}".to_owned()],
        ..Hygiene::default()
    };
    assert_eq!(looked_at(&tree, &terms, None).open, []);
}

#[test]
fn a_waiver_excuses_its_rule_at_its_path_until_its_day() {
    let mut tree = clean();
    add(&mut tree, "usr/bin/dash", 0o755, "x");
    let waive = |rule: &str, at: Option<&str>, until: &str| Hygiene {
        waived: vec![HygieneWaive {
            rule: rule.to_owned(),
            path: at.map(str::to_owned),
            reason: "the vendor's script".to_owned(),
            author: "ops".to_owned(),
            until: day(until),
        }],
        ..Hygiene::default()
    };
    let report = looked_at(
        &tree,
        &waive("shell", Some("/usr/bin/d*"), "2026-11-22"),
        None,
    );
    assert_eq!((report.open.len(), report.waived.len()), (0, 1));
    let terms = waive("shell", None, "2027-01-31");
    let report = looked_at(&tree, &terms, None);
    let stands = &report.waivers(&terms)[0];
    assert_eq!(
        (stands.what.as_str(), stands.author.as_deref()),
        ("hygiene shell", Some("ops"))
    );
    assert_eq!(stands.expires, Some(day("2027-01-31")));
    assert_eq!(report.fact().waived[0].path, "/usr/bin/dash");
    for terms in [
        waive("shell", None, "2026-11-21"),
        waive("setuid", None, "2027-01-31"),
        waive("shell", Some("/usr/bin/bash"), "2027-01-31"),
    ] {
        assert_eq!(looked_at(&tree, &terms, None).open.len(), 1, "{terms:?}");
    }
}

#[test]
fn a_root_that_grew_too_much_is_told_of() {
    let tree = clean();
    let size = looked_at(&tree, &Hygiene::default(), None).size;
    let grown = |last| looked_at(&tree, &Hygiene::default(), Some(last)).open;
    assert_eq!(grown(size), []);
    let found = grown(size * 100 / 130);
    assert_eq!(found[0].rule, "growth", "{found:?}");
}
