//! Trees, contents and settings that several tests share.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Cursor};
use std::num::NonZeroUsize;

use baker_model::tree::{
    Content, Contents, INLINE_LIMIT, Kind, LinkGroup, Metadata, Node, Origin, TreePath,
};
use baker_model::{Digest, Interrupt, Tree};

use super::super::{Compression, Error, Options, Parcels, Request, Summary, write};

pub const EPOCH: i64 = 1_700_000_000;

pub const COMPRESSIONS: [Compression; 3] = [
    Compression::None,
    Compression::Lz4hc { level: 9 },
    Compression::Zstd { level: 3 },
];

/// Contents in memory.
#[derive(Clone, Default)]
pub struct Memory(pub HashMap<Digest, Vec<u8>>);

impl Contents for Memory {
    fn read_exact_at(&self, digest: &Digest, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.get(digest).ok_or(io::ErrorKind::NotFound)?;
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let end = from + buffer.len();
        buffer.copy_from_slice(bytes.get(from..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A tree under construction with its contents.
#[derive(Clone)]
pub struct Builder {
    pub tree: Tree,
    pub contents: Memory,
    /// Files whose data comes first.
    pub first: Vec<TreePath>,
}

impl Builder {
    pub fn new() -> Self {
        Self {
            tree: Tree::new(EPOCH),
            contents: Memory::default(),
            first: Vec::new(),
        }
    }

    pub fn add(&mut self, path: &str, metadata: Metadata, kind: Kind) {
        let path = TreePath::new(path).unwrap();
        self.tree.ensure_parents(&path, EPOCH).unwrap();
        self.tree
            .insert(
                path,
                Node {
                    metadata,
                    kind,
                    origin: Origin::Implied,
                },
            )
            .unwrap();
    }

    pub fn content(&mut self, bytes: Vec<u8>) -> Content {
        if bytes.len() as u64 <= INLINE_LIMIT {
            return Content::inline(bytes);
        }
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        self.contents.0.insert(digest, bytes);
        Content::Extern { digest, size }
    }

    pub fn file(&mut self, path: &str, bytes: Vec<u8>) {
        let content = self.content(bytes);
        self.add(path, plain(0o644), Kind::file(content));
    }
}

pub fn plain(mode: u16) -> Metadata {
    Metadata::of_root(mode, EPOCH)
}

/// Attributes as a test writes them down.
type Pairs<'a> = &'a [(&'a str, &'a [u8])];

pub fn xattrs(pairs: Pairs<'_>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
        .collect()
}

/// Bytes without any pattern, from a linear congruential generator.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_le_bytes()[7]
    };
    (0..length).map(|_| next()).collect()
}

/// Bytes that compress about threefold.
pub fn prose(length: usize, seed: u64) -> Vec<u8> {
    let words = [
        "root ",
        "image ",
        "baked, ",
        "not patched; ",
        "verity\n",
        "0123 ",
    ];
    let mut text = Vec::with_capacity(length + 16);
    for byte in noise(length, seed) {
        if text.len() >= length {
            break;
        }
        text.extend_from_slice(words[usize::from(byte) % words.len()].as_bytes());
        text.push(byte);
    }
    text.truncate(length);
    text
}

/// One of everything.
pub fn zoo() -> Builder {
    let mut zoo = Builder::new();
    zoo.file("etc/motd", b"baked, not patched\n".to_vec());
    zoo.file("etc/empty", Vec::new());
    zoo.file("etc/zeros", vec![0; 300_000]);
    zoo.file("usr/lib/small", prose(3000, 1));
    zoo.file("usr/lib/noise", noise(70_001, 2));
    zoo.file("usr/lib/library", prose(1_234_567, 3));
    zoo.file(
        "usr/lib/mixed",
        [prose(99_000, 4), noise(99_000, 5), prose(50, 6)].concat(),
    );
    for (size, seed) in [(4095, 7), (4096, 8), (4097, 9), (8192, 10), (65_536, 11)] {
        zoo.file(&format!("usr/edge/noise-{size}"), noise(size, seed));
        zoo.file(&format!("usr/edge/prose-{size}"), prose(size, seed));
    }
    zoo.file(&format!("usr/{}", "n".repeat(255)), b"long name".to_vec());
    let owned = Metadata {
        uid: 70_000,
        gid: 3,
        mtime: 5,
        ..plain(0o6755)
    };
    zoo.add("usr/bin", plain(0o1777), Kind::Directory);
    zoo.add("usr/bin/tool", owned, Kind::file(Content::inline("#!")));
    let old = Metadata {
        mtime: -7,
        ..plain(0o400)
    };
    zoo.add("usr/bin/old", old, Kind::file(Content::inline("1969")));
    for (name, length) in [
        ("short", 7),
        ("long", 4032),
        ("longer", 4033),
        ("longest", 4095),
    ] {
        let kind = Kind::Symlink {
            target: prose(length, 12).iter().map(|b| b | 1).collect(),
        };
        zoo.add(&format!("links/{name}"), plain(0o777), kind);
    }
    zoo.add(
        "dev/null",
        plain(0o666),
        Kind::CharDevice { major: 1, minor: 3 },
    );
    zoo.add(
        "dev/disk",
        plain(0o660),
        Kind::BlockDevice {
            major: 259,
            minor: 70_000,
        },
    );
    zoo.add("dev/pipe", plain(0o600), Kind::Fifo);
    zoo.add("dev/socket", plain(0o755), Kind::Socket);
    let shared = zoo.content(prose(20_000, 13));
    for path in ["a/hard", "b/hard", "b/hard2"] {
        let kind = Kind::File {
            content: shared.clone(),
            link: Some(LinkGroup(41)),
        };
        zoo.add(path, plain(0o644), kind);
    }
    attributes(&mut zoo);
    zoo
}

fn attributes(zoo: &mut Builder) {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let acl = [
        2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 4, 0, 4, 0, 255, 255, 255, 255, 32, 0, 4, 0,
        255, 255, 255, 255,
    ];
    let rows: [(&str, Pairs<'_>); 6] = [
        ("xattr/ping", &[("security.capability", &capability)]),
        (
            "xattr/acl",
            &[("system.posix_acl_access", &acl), ("user.empty", b"")],
        ),
        (
            "xattr/shared1",
            &[("user.mime_type", b"application/octet-stream")],
        ),
        (
            "xattr/shared2",
            &[
                ("user.mime_type", b"application/octet-stream"),
                ("user.b", b"2"),
            ],
        ),
        ("xattr/trusted", &[("trusted.overlay.opaque", b"y")]),
        ("xattr/large", &[("user.large", &[7; 5000])]),
    ];
    for (path, pairs) in rows {
        let metadata = Metadata {
            xattrs: xattrs(pairs),
            ..plain(0o755)
        };
        zoo.add(path, metadata, Kind::file(Content::inline("content")));
    }
    let many: Vec<(String, Vec<u8>)> = (0..300)
        .map(|n| (format!("user.many{n}"), vec![1; n % 9]))
        .collect();
    let many = many
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_slice()))
        .collect::<Vec<_>>();
    for path in ["xattr/many1", "xattr/many2"] {
        zoo.add(
            path,
            Metadata {
                xattrs: xattrs(&many),
                ..plain(0o755)
            },
            Kind::Directory,
        );
    }
    let link = Kind::Symlink {
        target: vec![b't'; 4000],
    };
    zoo.add(
        "xattr/link",
        Metadata {
            xattrs: xattrs(&[("trusted.t", &[1; 90])]),
            ..plain(0o777)
        },
        link,
    );
}

pub fn options(compression: Compression, threads: usize) -> Options {
    Options {
        compression,
        uuid: *b"0123456789abcdef",
        epoch: EPOCH,
        threads: NonZeroUsize::new(threads).unwrap(),
        ..Options::default()
    }
}

/// Writes over a disk full of junk and gives the image.
pub fn image(built: &Builder, options: &Options) -> Result<(Vec<u8>, Summary), Error> {
    image_with(built, options, None)
}

/// The same with parcels.
pub fn image_with(
    built: &Builder,
    options: &Options,
    parcels: Option<&dyn Parcels>,
) -> Result<(Vec<u8>, Summary), Error> {
    let mut out = Cursor::new(vec![0xa5; 1 << 20]);
    let interrupt = Interrupt::new();
    let progress = |_: u64| {};
    let request = Request {
        tree: &built.tree,
        contents: &built.contents,
        parcels,
        first: &built.first,
        options,
        interrupt: &interrupt,
        progress: &progress,
    };
    let summary = write(&request, &mut out)?;
    let mut bytes = out.into_inner();
    bytes.truncate(usize::try_from(summary.size).unwrap());
    Ok((bytes, summary))
}

/// The tree with link groups numbered by first name, as the reader numbers them.
pub fn normal(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    let mut numbers = HashMap::new();
    for (_, node) in tree.walk_mut() {
        if let Kind::File {
            link: Some(group), ..
        } = &mut node.kind
        {
            let next = u32::try_from(numbers.len()).unwrap();
            *group = LinkGroup(*numbers.entry(*group).or_insert(next));
        }
    }
    tree
}
