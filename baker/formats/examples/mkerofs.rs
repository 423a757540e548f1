//! `mkerofs FOLDER IMAGE [none|lz4hc|zstd] [LEVEL] [THREADS] [CLUSTER] [EPOCH]`: a folder as an
//! EROFS image, to be compared with `mkfs.erofs` side by side (`scripts/bench-erofs`).
//!
//! Owners, modes, times, hard links and device nodes are taken from the folder; extended
//! attributes are not. With an epoch that is the time of the image and of every node.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use baker_formats::erofs::{self, Compression, Options, Request};
use baker_model::tree::{Content, Contents, Kind, LinkGroup, Metadata, Node, Origin, TreePath};
use baker_model::{Digest, Interrupt, Tree};

/// Bytes of output kept back, as in a bake.
const BUFFER: usize = 1 << 20;

/// Files by a digest that stands for their place: this tool never looks at their bytes twice.
#[derive(Default)]
struct Folder {
    paths: HashMap<Digest, PathBuf>,
    links: HashMap<u64, u32>,
    /// The time of every node instead of its own.
    epoch: Option<i64>,
}

impl Contents for Folder {
    fn read_exact_at(&self, digest: &Digest, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let path = self.paths.get(digest).ok_or(io::ErrorKind::NotFound)?;
        File::open(path)?.read_exact_at(buffer, offset)
    }
}

impl Folder {
    fn collect(&mut self, at: &Path, path: &TreePath, tree: &mut Tree) -> Result<()> {
        let found = at
            .symlink_metadata()
            .with_context(|| format!("looking at {}", at.display()))?;
        let kind = self.kind(at, &found)?;
        let is_directory = kind == Kind::Directory;
        let metadata = Metadata {
            mode: u16::try_from(found.mode() & 0o7777)?,
            uid: found.uid(),
            gid: found.gid(),
            mtime: self.epoch.unwrap_or_else(|| found.mtime()),
            ..Metadata::default()
        };
        tree.insert(
            path.clone(),
            Node {
                metadata,
                kind,
                origin: Origin::Recipe,
            },
        )?;
        if is_directory {
            for entry in fs::read_dir(at)? {
                let entry = entry?;
                let below = path.join(entry.file_name().as_bytes())?;
                self.collect(&entry.path(), &below, tree)?;
            }
        }
        Ok(())
    }

    fn kind(&mut self, at: &Path, found: &fs::Metadata) -> Result<Kind> {
        let device = found.rdev();
        let major = u32::try_from(device >> 8 & 0xfff)?;
        let minor = u32::try_from(device & 0xff | device >> 12 & 0xf_ff00)?;
        let file_type = found.file_type();
        Ok(if file_type.is_dir() {
            Kind::Directory
        } else if file_type.is_symlink() {
            Kind::Symlink {
                target: fs::read_link(at)?.as_os_str().as_bytes().to_vec(),
            }
        } else if file_type.is_char_device() {
            Kind::CharDevice { major, minor }
        } else if file_type.is_block_device() {
            Kind::BlockDevice { major, minor }
        } else if file_type.is_fifo() {
            Kind::Fifo
        } else if file_type.is_socket() {
            Kind::Socket
        } else {
            let digest = Digest::of(format!("{}:{}", found.dev(), found.ino()).as_bytes());
            self.paths.insert(digest, at.to_owned());
            let next = u32::try_from(self.links.len())?;
            let link = (found.nlink() > 1)
                .then(|| LinkGroup(*self.links.entry(found.ino()).or_insert(next)));
            Kind::File {
                content: Content::Extern {
                    digest,
                    size: found.size(),
                },
                link,
            }
        })
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, image, rest @ ..] = &arguments[..] else {
        bail!("usage: mkerofs FOLDER IMAGE [none|lz4hc|zstd] [LEVEL] [THREADS] [CLUSTER] [EPOCH]");
    };
    let number = |at: usize, default: u32| rest.get(at).map_or(Ok(default), |text| text.parse());
    let level = number(1, 9)?;
    let compression = match rest.first().map_or("zstd", String::as_str) {
        "none" => Compression::None,
        "lz4hc" => Compression::Lz4hc { level },
        "zstd" => Compression::Zstd {
            level: i32::try_from(level)?,
        },
        other => bail!("`{other}` is neither none, lz4hc nor zstd"),
    };
    let epoch: Option<i64> = rest.get(4).map(|text| text.parse()).transpose()?;
    let options = Options {
        compression,
        threads: NonZeroUsize::new(number(2, 2)?.try_into()?).context("no threads")?,
        cluster_size: number(3, 64 << 10)?,
        epoch: epoch.unwrap_or_default(),
        ..Options::default()
    };
    let mut contents = Folder {
        epoch,
        ..Folder::default()
    };
    let mut tree = Tree::new(0);
    contents.collect(Path::new(folder), &TreePath::root(), &mut tree)?;

    let begin = Instant::now();
    let out = File::create(image).with_context(|| format!("making {image}"))?;
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let (interrupt, progress) = (Interrupt::new(), |_: u64| {});
    let request = Request {
        tree: &tree,
        contents: &contents,
        parcels: None,
        first: &[],
        options: &options,
        interrupt: &interrupt,
        progress: &progress,
    };
    let summary = erofs::write(&request, &mut out)?;
    writeln!(io::stdout(), "{summary:?} in {:?}", begin.elapsed())?;
    Ok(())
}
