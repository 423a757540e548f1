//! Archives read back by our reader and by GNU tar.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;

use baker_model::tree::{self, Content, LinkGroup, Metadata, NoContents, Node, Origin, TreePath};
use baker_model::{Digest, Tree};
use proptest::prelude::*;

use super::*;
use crate::io::{Slice, Source as _};
use crate::judge::{judge, run};

fn header(path: &[u8], kind: Kind) -> Header {
    Header {
        path: path.to_vec(),
        kind,
        mode: 0o4755,
        uid: 1000,
        gid: 0,
        mtime: 1_700_000_000,
        xattrs: BTreeMap::new(),
        size: 0,
        offset: 0,
    }
}

fn bytes(archive: &Archive<'_>) -> Vec<u8> {
    let mut bytes = vec![7; usize::try_from(archive.size()).unwrap()];
    archive.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

/// Headers (offsets taken out) and data as the reader sees them.
fn read_back(bytes: &[u8]) -> Vec<(Header, Vec<u8>)> {
    let mut reader = Reader::new(bytes, Limits::default());
    let mut all = Vec::new();
    while let Some(mut entry) = reader.next_entry().unwrap() {
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        let header = Header {
            offset: 0,
            ..entry.header
        };
        all.push((header, data));
    }
    all
}

fn tree() -> Tree {
    let mut tree = Tree::new(5);
    let mut put = |path: &str, mode, kind| {
        let path = TreePath::new(path).unwrap();
        tree.ensure_parents(&path, 5).unwrap();
        let metadata = Metadata::of_root(mode, 1_700_000_000);
        let origin = Origin::Recipe;
        let node = Node {
            metadata,
            kind,
            origin,
        };
        tree.insert(path.clone(), node).unwrap();
        path
    };
    let file = |text: &str| tree::Kind::file(Content::inline(text));
    let linked = || tree::Kind::File {
        content: Content::inline("linked"),
        link: Some(LinkGroup(1)),
    };
    put("etc/motd", 0o644, file("hello\n"));
    put("usr/bin/a", 0o755, linked());
    put("usr/bin/b", 0o755, linked());
    let deep = format!("usr/{}/gr\u{fc}n", "long-name-".repeat(12));
    put(&deep, 0o600, file(&"x".repeat(1000)));
    put(
        "bin",
        0o777,
        tree::Kind::Symlink {
            target: b"usr/bin".to_vec(),
        },
    );
    put(
        "dev/null",
        0o666,
        tree::Kind::CharDevice { major: 1, minor: 3 },
    );
    put("run/pipe", 0o600, tree::Kind::Fifo);
    put("run/socket", 0o600, tree::Kind::Socket);
    let ping = put("usr/bin/ping", 0o755, file(""));
    let node = tree.get_mut(&ping).unwrap();
    let capability = b"\x01\0\0\x02=\n\0\0".to_vec();
    node.metadata.xattrs = BTreeMap::from([(b"security.capability".to_vec(), capability)]);
    tree
}

#[test]
fn a_tree_comes_back_whole() {
    let tree = tree();
    let archive = Archive::of_tree(&tree, &NoContents);
    let entries = read_back(&bytes(&archive));
    // All nodes but the socket.
    assert_eq!(entries.len(), tree.len() - 1);
    let find = |path: &str| entries.iter().find(|(h, _)| h.path == path.as_bytes());
    assert_eq!(find("./usr/bin/a").unwrap().1, b"linked");
    let (link, _) = find("./usr/bin/b").unwrap();
    let target = b"./usr/bin/a".to_vec();
    assert_eq!(link.kind, Kind::HardLink { target });
    let (ping, _) = find("./usr/bin/ping").unwrap();
    assert_eq!(
        ping.xattrs[&b"security.capability"[..]],
        b"\x01\0\0\x02=\n\0\0"
    );
    assert!(
        entries
            .iter()
            .any(|(h, data)| h.path.ends_with("gr\u{fc}n".as_bytes()) && data.len() == 1000)
    );
    assert_eq!(find("./").unwrap().0.kind, Kind::Directory);
    assert_eq!(
        find("./dev/null").unwrap().0.kind,
        Kind::CharDevice { major: 1, minor: 3 }
    );
}

#[test]
fn the_bytes_are_pinned() {
    let tree = tree();
    let all = bytes(&Archive::of_tree(&tree, &NoContents));
    assert_eq!(Digest::of(&all).short(), "884aa1c5244f");
}

#[test]
fn any_part_of_an_archive_can_be_read() {
    let tree = tree();
    let archive = Archive::of_tree(&tree, &NoContents);
    let all = bytes(&archive);
    for length in [1, 511, 513, 5000] {
        let mut parts = Vec::new();
        let mut slice = Slice::new(&archive, 0..archive.size());
        let mut part = vec![1; length];
        loop {
            match slice.read(&mut part).unwrap() {
                0 => break,
                count => parts.extend_from_slice(&part[..count]),
            }
        }
        assert!(parts == all, "{length}");
    }
    assert!(archive.read_exact_at(archive.size(), &mut [0]).is_err());
}

#[test]
fn gnu_tar_lists_the_same() {
    let Some(mut tar) = judge("tar") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let tree = tree();
    std::fs::write(&path, bytes(&Archive::of_tree(&tree, &NoContents))).unwrap();
    let options = [
        "--list",
        "--verbose",
        "--numeric-owner",
        "--quoting-style=escape",
        "--utc",
    ];
    let (good, said) = run(tar.args(options).arg("--full-time").arg("-f").arg(&path));
    assert!(good, "{said}");
    for line in [
        "drwxr-xr-x 0/0               0 1970-01-01 00:00:05 ./\n",
        "-rw-r--r-- 0/0               6 2023-11-14 22:13:20 ./etc/motd\n",
        "hrwxr-xr-x 0/0               0 2023-11-14 22:13:20 ./usr/bin/b link to ./usr/bin/a\n",
        "lrwxrwxrwx 0/0               0 2023-11-14 22:13:20 ./bin -> usr/bin\n",
        "crw-rw-rw- 0/0             1,3 2023-11-14 22:13:20 ./dev/null\n",
        "/gr\\303\\274n\n",
    ] {
        assert!(said.contains(line), "{line}in:\n{said}");
    }
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1_u8..=255, 1..260)
}

proptest! {
    #[test]
    fn any_header_comes_back(
        path in names(), target in names(), mode in 0_u16..0o10000, uid in any::<u32>(),
        mtime in any::<i64>(), kind in 0..4, data in prop::collection::vec(any::<u8>(), 0..1500),
        xattrs in prop::collection::btree_map(
            prop::collection::vec(33_u8..=126, 1..40).prop_filter("key", |key| !key.contains(&b'=')),
            prop::collection::vec(any::<u8>(), 1..200), 0..3),
    ) {
        let kind = match kind {
            0 => Kind::File,
            1 => Kind::HardLink { target },
            2 => Kind::Symlink { target },
            _ => Kind::BlockDevice { major: 8, minor: 0o777_7777 },
        };
        let data = if kind == Kind::File { data } else { Vec::new() };
        let size = data.len() as u64;
        let written = Header { mode, uid, mtime, xattrs, size, ..header(&path, kind) };
        let mut archive = Archive::new();
        archive.append(&written, Arc::<[u8]>::from(&data[..]).to_vec());
        let read = read_back(&bytes(&archive));
        // An old reader's rule: a name that ends in a slash is a directory's, also here.
        prop_assert_eq!(read, vec![(written, data)]);
    }
}
