//! Reading images back: the tree, and contents on demand.
//!
//! Reads what this module writes: 4 KiB blocks, compact indexes with big clusters, no fragments,
//! no extra devices. Anything else is refused by name. Never trusts a field: whatever the bytes
//! are, the answer is a tree or an error.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::{Mutex, PoisonError};

use baker_model::tree::{
    Content, Contents, INLINE_LIMIT, Kind, LinkGroup, Metadata, Node, Origin, TreePath,
};
use baker_model::{Digest, Digester, Tree};

mod file;
mod image;
mod list;
mod pieces;

pub use image::Image;
pub use pieces::{Part, Piece, pieces};

use super::error::ReadError;
use super::format::{Inode, decode_device, mode};
use crate::io::Source;
pub(super) use file::{FileMap, Window};

/// Bytes hashed at once.
const STEP: usize = 1 << 20;

/// The contents of an image by digest.
pub struct ImageContents<'a> {
    image: Image<'a>,
    files: HashMap<Digest, (u64, u64)>,
    /// The file read last: reads tend to follow each other.
    last: Mutex<Option<(u64, FileMap, Window)>>,
}

impl Contents for ImageContents<'_> {
    fn read_exact_at(&self, digest: &Digest, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let Some(&(nid, size)) = self.files.get(digest) else {
            let text = format!("no content {digest} in the EROFS image");
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        };
        if offset
            .checked_add(buffer.len() as u64)
            .is_none_or(|end| end > size)
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(open, ..)| *open != nid) {
            let map = FileMap::open(&self.image, nid).map_err(io::Error::other)?;
            *last = Some((nid, map, Window::default()));
        }
        match last.as_mut() {
            Some((_, map, window)) => map
                .read(&self.image, window, offset, buffer)
                .map_err(io::Error::other),
            None => Ok(()),
        }
    }
}

/// Reads a whole image: every file is unpacked once to know its digest.
///
/// # Errors
/// The image cannot be read, is damaged, or uses what this reader does not know.
pub fn read<'a>(source: &'a dyn Source) -> Result<(Tree, ImageContents<'a>), ReadError> {
    let image = Image::open(source)?;
    let mut reader = Reader {
        image,
        groups: HashMap::new(),
        files: HashMap::new(),
    };
    let tree = reader.tree()?;
    let Reader { image, files, .. } = reader;
    Ok((
        tree,
        ImageContents {
            image,
            files,
            last: Mutex::new(None),
        },
    ))
}

struct Reader<'a> {
    image: Image<'a>,
    /// Files with several names: their group and content.
    groups: HashMap<u64, Kind>,
    files: HashMap<Digest, (u64, u64)>,
}

impl Reader<'_> {
    fn tree(&mut self) -> Result<Tree, ReadError> {
        let root = self.image.root();
        let mut tree = Tree::new(0);
        let mut seen = HashSet::from([root]);
        let mut todo = vec![(TreePath::root(), root)];
        while let Some((path, nid)) = todo.pop() {
            let node = self.node(nid)?;
            let is_directory = node.kind == Kind::Directory;
            insert(&mut tree, &path, node)?;
            if !is_directory {
                continue;
            }
            let mut names: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
            self.image.entries(nid, &mut |name, child| {
                names.insert(name.to_vec(), child);
            })?;
            for (name, child) in names.into_iter().rev() {
                let at = path
                    .join(&name)
                    .map_err(|source| entry_error(&path, source))?;
                let (inode, _) = self.image.inode(child)?;
                if inode.mode & mode::TYPE == mode::DIRECTORY && !seen.insert(child) {
                    let source = io::Error::other("a directory has two names");
                    return Err(entry_error(&at, source));
                }
                todo.push((at, child));
            }
        }
        Ok(tree)
    }

    fn node(&mut self, nid: u64) -> Result<Node, ReadError> {
        let (inode, offset) = self.image.inode(nid)?;
        let metadata = Metadata {
            mode: inode.mode & 0o7777,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            xattrs: self.image.xattrs(nid)?,
        };
        let (major, minor) = decode_device(inode.union);
        let kind = match inode.mode & mode::TYPE {
            mode::DIRECTORY => Kind::Directory,
            mode::FILE => self.file(nid, &inode)?,
            mode::SYMLINK => Kind::Symlink {
                target: self.target(nid, &inode)?,
            },
            mode::CHAR => Kind::CharDevice { major, minor },
            mode::BLOCK => Kind::BlockDevice { major, minor },
            mode::FIFO => Kind::Fifo,
            mode::SOCKET => Kind::Socket,
            other => {
                return Err(ReadError::Damaged {
                    offset,
                    what: "the type of an inode",
                    found: other.into(),
                    expected: "one of the seven file types".to_owned(),
                });
            }
        };
        Ok(Node {
            metadata,
            kind,
            origin: Origin::Implied,
        })
    }

    fn file(&mut self, nid: u64, inode: &Inode) -> Result<Kind, ReadError> {
        if let Some(kind) = self.groups.get(&nid) {
            return Ok(kind.clone());
        }
        let content = self.content(nid, inode.size)?;
        if inode.links < 2 {
            return Ok(Kind::file(content));
        }
        let number = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        let kind = Kind::File {
            content,
            link: Some(LinkGroup(number)),
        };
        self.groups.insert(nid, kind.clone());
        Ok(kind)
    }

    fn content(&mut self, nid: u64, size: u64) -> Result<Content, ReadError> {
        let map = FileMap::open(&self.image, nid)?;
        let mut window = Window::default();
        let mut step = vec![0; STEP.min(usize::try_from(size).unwrap_or(STEP))];
        if size <= INLINE_LIMIT {
            map.read(&self.image, &mut window, 0, &mut step)?;
            return Ok(Content::inline(step));
        }
        let mut digester = Digester::new();
        let mut offset = 0;
        while offset < size {
            let length = usize::try_from(size - offset).unwrap_or(STEP).min(STEP);
            map.read(&self.image, &mut window, offset, &mut step[..length])?;
            digester.update(&step[..length]);
            offset += length as u64;
        }
        let digest = digester.finish();
        self.files.insert(digest, (nid, size));
        Ok(Content::Extern { digest, size })
    }

    fn target(&self, nid: u64, inode: &Inode) -> Result<Vec<u8>, ReadError> {
        let size = usize::try_from(inode.size)
            .ok()
            .filter(|size| *size <= 4096);
        let Some(size) = size else {
            return Err(ReadError::Damaged {
                offset: 0,
                what: "the length of a link target",
                found: inode.size,
                expected: "at most 4096".to_owned(),
            });
        };
        let mut target = vec![0; size];
        let map = FileMap::open(&self.image, nid)?;
        map.read(&self.image, &mut Window::default(), 0, &mut target)?;
        Ok(target)
    }
}

fn insert(tree: &mut Tree, path: &TreePath, node: Node) -> Result<(), ReadError> {
    tree.insert(path.clone(), node)
        .map(|_| ())
        .map_err(|source| entry_error(path, source))
}

fn entry_error(
    path: &TreePath,
    source: impl std::error::Error + Send + Sync + 'static,
) -> ReadError {
    ReadError::Entry {
        path: path.clone(),
        source: Box::new(source),
    }
}
