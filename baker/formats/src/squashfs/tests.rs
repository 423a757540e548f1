//! Judged by `unsquashfs`: the listing must name every attribute of the tree.

use std::io::Cursor;

use baker_model::tree::{Content, Kind, LinkGroup, Metadata, NoContents, Node, Origin, TreePath};
use baker_model::{Interrupt, Tree};

use super::{Error, Options, Request, write};
use crate::judge;

fn tree() -> Tree {
    let mut tree = Tree::new(0);
    let link = Some(LinkGroup(0));
    let file = |text: &str| Kind::File {
        content: Content::inline(text),
        link: None,
    };
    let nodes = [
        ("etc", 0o755, Kind::Directory),
        ("etc/motd", 0o640, file("hello\n")),
        ("etc/empty", 0o600, file("")),
        (
            "etc/one",
            0o644,
            Kind::File {
                content: Content::inline("1"),
                link,
            },
        ),
        (
            "etc/two",
            0o644,
            Kind::File {
                content: Content::inline("1"),
                link,
            },
        ),
        (
            "bin",
            0o777,
            Kind::Symlink {
                target: b"usr/bin".to_vec(),
            },
        ),
        ("sudo", 0o4755, file("#!")),
        ("null", 0o666, Kind::CharDevice { major: 1, minor: 3 }),
        (
            "disk",
            0o660,
            Kind::BlockDevice {
                major: 8,
                minor: 30,
            },
        ),
        ("pipe", 0o600, Kind::Fifo),
    ];
    for (path, mode, kind) in nodes {
        let metadata = Metadata {
            uid: 7,
            gid: 70_000,
            ..Metadata::of_root(mode, 1_700_000_000)
        };
        let path = TreePath::new(path).unwrap();
        tree.insert(
            path,
            Node {
                metadata,
                kind,
                origin: Origin::Recipe,
            },
        )
        .unwrap();
    }
    tree
}

fn image(tree: &Tree) -> Result<Vec<u8>, Error> {
    let (interrupt, progress) = (Interrupt::new(), |_: u64| {});
    let options = Options {
        level: 9,
        epoch: 1_700_000_000,
    };
    let contents = &NoContents;
    let mut out = Cursor::new(Vec::new());
    let request = Request {
        tree,
        contents,
        options,
        interrupt: &interrupt,
        progress: &progress,
    };
    write(&request, &mut out)?;
    Ok(out.into_inner())
}

#[test]
fn two_runs_are_equal_and_unsquashfs_sees_the_tree() {
    let bytes = image(&tree()).unwrap();
    assert_eq!(bytes, image(&tree()).unwrap());
    let Some(mut command) = judge::judge("unsquashfs") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    std::fs::write(&path, &bytes).unwrap();
    let (content, said) = judge::run(command.env("TZ", "UTC").args(["-lln", "-d", ""]).arg(&path));
    assert!(content, "{said}");
    let expected = [
        "lrwxrwxrwx 7/70000                   7 2023-11-14 22:13 /bin -> usr/bin",
        "brw-rw---- 7/70000               8, 30 2023-11-14 22:13 /disk",
        "-rw------- 7/70000                   0 2023-11-14 22:13 /etc/empty",
        "-rw-r----- 7/70000                   6 2023-11-14 22:13 /etc/motd",
        "-rw-r--r-- 7/70000                   1 2023-11-14 22:13 /etc/two",
        "crw-rw-rw- 7/70000                1, 3 2023-11-14 22:13 /null",
        "prw------- 7/70000                   0 2023-11-14 22:13 /pipe",
        "-rwsr-xr-x 7/70000                   2 2023-11-14 22:13 /sudo",
    ];
    // Columns shift with the width of the numbers: compare words.
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let said: Vec<String> = said.lines().map(words).collect();
    for line in expected {
        let line = words(line);
        assert!(said.contains(&line), "no `{line}` in {said:#?}");
    }
}

#[test]
fn what_would_be_lost_is_refused_with_its_path() {
    let mut tree = tree();
    let sudo = TreePath::new("sudo").unwrap();
    let metadata = &mut tree.get_mut(&sudo).unwrap().metadata;
    metadata
        .xattrs
        .insert(b"security.capability".to_vec(), vec![1]);
    let text = image(&tree).unwrap_err().to_string();
    assert!(
        text.contains("/sudo") && text.contains("security.capability"),
        "{text}"
    );

    let metadata = &mut tree.get_mut(&sudo).unwrap().metadata;
    metadata.xattrs.clear();
    metadata.mtime = -1;
    assert!(matches!(image(&tree), Err(Error::Time { found: -1, .. })));
}
