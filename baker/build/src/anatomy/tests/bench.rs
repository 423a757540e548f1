//! A small disk with everything that a disk can have.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Cursor};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use baker_formats::pe::{self, NewSection};
use baker_formats::{erofs, squashfs};
use baker_model::layout::Layout;
use baker_model::recipe::{Architecture, Disk};
use baker_model::tree::{Content, Contents, Kind, Metadata, Node, Origin, TreePath};
use baker_model::{Digest, Interrupt, Tree};

use super::super::{Anatomy, Region, anatomy};
use crate::disk::{Loader, Request, disk};

const EPOCH: i64 = 1_763_769_600;

/// The file system of the root.
#[derive(Clone, Copy)]
pub enum Format {
    Erofs,
    Squashfs,
}

/// A disk in a file, and what it was made of.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub layout: Layout,
    pub uki: Vec<u8>,
    pub anatomy: Anatomy,
}

impl Bench {
    pub fn new(format: Format, slots: u8) -> Self {
        Self::with_uki(format, slots, uki())
    }

    /// The same with another UKI.
    pub fn with_uki(format: Format, slots: u8, uki: Vec<u8>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write_root(format, &path("root"));
        let request = crate::verity::Request {
            image: &path("root"),
            tree: &path("tree"),
            lock: Digest::of(b"lock"),
            threads: 2,
        };
        let root_hash = crate::verity::verity(&request).unwrap().root_hash;
        let made = disk(&Request {
            path: &path("disk"),
            name: "minimal",
            version: "1.0.0",
            architecture: Architecture::Amd64,
            lock: Digest::of(b"lock"),
            epoch: EPOCH,
            disk: &Disk {
                slots,
                data_mib: (slots == 2).then_some(3),
                ..Disk::default()
            },
            uki: &uki,
            loader: Some(Loader {
                program: &stub(),
                menu_seconds: 2,
            }),
            root: &path("root"),
            tree: &path("tree"),
            root_hash,
        })
        .unwrap();
        let file = File::open(path("disk")).unwrap();
        let anatomy = anatomy(&file, made.layout.size).unwrap();
        Self {
            layout: made.layout,
            uki,
            anatomy,
            folder,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The regions whose structure is called this.
    pub fn regions(&self, name: &str) -> Vec<&Region> {
        let regions = self.anatomy.regions().iter();
        regions
            .filter(|region| region.structure.to_string() == name)
            .collect()
    }

    /// First byte and first byte behind of the one region that is called this.
    pub fn place(&self, name: &str) -> (u64, u64) {
        let [region] = self.regions(name)[..] else {
            panic!("{name} is not one region");
        };
        (region.range.start, region.range.end)
    }
}

/// Contents in memory.
struct Memory(HashMap<Digest, Vec<u8>>);

impl Contents for Memory {
    fn read_exact_at(&self, digest: &Digest, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.get(digest).ok_or(io::ErrorKind::NotFound)?;
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let end = from + buffer.len();
        buffer.copy_from_slice(bytes.get(from..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn write_root(format: Format, path: &std::path::Path) {
    let mut tree = Tree::new(EPOCH);
    let mut contents = Memory(HashMap::new());
    let mut add = |path: &str, kind| {
        let path = TreePath::new(path).unwrap();
        tree.ensure_parents(&path, EPOCH).unwrap();
        let node = Node {
            metadata: Metadata::of_root(0o644, EPOCH),
            kind,
            origin: Origin::Recipe,
        };
        tree.insert(path, node).unwrap();
    };
    let text: Vec<u8> = (0..60_000_u32)
        .flat_map(|index| format!("line {}\n", index / 7).into_bytes())
        .collect();
    for (path, bytes) in [("/usr/noise", noise(300_000)), ("/usr/text", text)] {
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        contents.0.insert(digest, bytes);
        add(path, Kind::file(Content::Extern { digest, size }));
    }
    let small = Content::inline(&b"baked, not patched\n"[..]);
    add("/etc/motd", Kind::file(small));
    let target = b"usr/text".to_vec();
    add("/link", Kind::Symlink { target });
    for index in 0..300 {
        let name = format!("/many/a-rather-long-name-{index:03}");
        add(&name, Kind::file(Content::inline(Vec::new())));
    }
    let mut out = Cursor::new(Vec::new());
    let interrupt = Interrupt::new();
    match format {
        Format::Erofs => {
            let options = erofs::Options {
                compression: erofs::Compression::Lz4hc { level: 9 },
                epoch: EPOCH,
                threads: NonZeroUsize::MIN,
                ..erofs::Options::default()
            };
            let request = erofs::Request {
                tree: &tree,
                contents: &contents,
                parcels: None,
                first: &[],
                options: &options,
                interrupt: &interrupt,
                progress: &|_| {},
            };
            erofs::write(&request, &mut out).unwrap();
        }
        Format::Squashfs => {
            let options = squashfs::Options {
                level: 3,
                epoch: EPOCH,
            };
            let request = squashfs::Request {
                tree: &tree,
                contents: &contents,
                options,
                interrupt: &interrupt,
                progress: &|_| {},
            };
            squashfs::write(&request, &mut out).unwrap();
        }
    }
    let mut bytes = out.into_inner();
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    std::fs::write(path, bytes).unwrap();
}

/// An EFI program with one section; headers of 1 KiB.
pub fn stub() -> Vec<u8> {
    let mut bytes = vec![0; 0x600];
    let mut put =
        |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    let (coff, optional, table) = (0x44, 0x58, 0x148);
    put(0, b"MZ");
    put(0x3c, &[0x40]);
    put(0x40, b"PE\0\0");
    put(coff, &0x8664_u16.to_le_bytes());
    put(coff + 2, &1_u16.to_le_bytes());
    put(coff + 16, &240_u16.to_le_bytes());
    put(optional, &0x20b_u16.to_le_bytes());
    for (at, value) in [
        (32, 0x1000),
        (36, 0x200),
        (56, 0x2000),
        (60, 0x400),
        (108, 16),
    ] {
        put(optional + at, &u32::to_le_bytes(value));
    }
    put(table, b".text");
    put(0x400, &[0x90; 0x180]);
    for (at, value) in [(8, 0x180), (12, 0x1000), (16, 0x200), (20, 0x400)] {
        put(table + at, &u32::to_le_bytes(value));
    }
    put(table + 36, &0x6000_0020_u32.to_le_bytes());
    bytes
}

/// A program with the sections of a UKI, and a certificate table.
fn uki() -> Vec<u8> {
    let linux = noise(100_000);
    let sections = [
        NewSection::new(".cmdline", b"quiet"),
        NewSection::new(".linux", &linux),
    ];
    let mut bytes = pe::append(&stub(), &sections).unwrap();
    let certificates = 0x58 + 112 + 4 * 8;
    let at = u32::try_from(bytes.len()).unwrap();
    bytes[certificates..certificates + 4].copy_from_slice(&at.to_le_bytes());
    bytes[certificates + 4..certificates + 8].copy_from_slice(&64_u32.to_le_bytes());
    bytes.extend([7; 64]);
    bytes
}
