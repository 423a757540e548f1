//! What the loops work on: packages and a tree, made up, the same every time.

use std::collections::BTreeMap;
use std::io::{self, Cursor};

use baker_formats::erofs::Source as _;
use baker_formats::tar::{Archive, Header, Kind as Entry};
use baker_model::lock::{GuestLock, LOCK_VERSION, PackageLock, PackageRole};
use baker_model::object::{ObjectError, Objects, ReadSeek};
use baker_model::tree::{Content, Contents, INLINE_LIMIT, Kind, LinkGroup, Metadata, Node, Origin};
use baker_model::{Digest, Lock, Recipe, Tree, tree::TreePath};

/// The time of everything made here.
const EPOCH: i64 = 1_700_000_000;

/// Bytes by their digest.
#[derive(Default)]
pub struct Memory(BTreeMap<Digest, Vec<u8>>);

impl Memory {
    fn keep(&mut self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.0.insert(digest, bytes);
        digest
    }

    fn content(&mut self, bytes: Vec<u8>) -> Content {
        let size = bytes.len() as u64;
        if size <= INLINE_LIMIT {
            return Content::inline(bytes);
        }
        let digest = self.keep(bytes);
        Content::Extern { digest, size }
    }
}

impl Objects for Memory {
    fn open(&self, digest: &Digest) -> Result<Box<dyn ReadSeek>, ObjectError> {
        let missing = ObjectError::Missing { digest: *digest };
        let bytes = self.0.get(digest).ok_or(missing)?;
        Ok(Box::new(Cursor::new(bytes.clone())))
    }
}

impl Contents for Memory {
    fn read_exact_at(&self, digest: &Digest, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.get(digest).ok_or(io::ErrorKind::NotFound)?;
        bytes.read_exact_at(offset, buffer)
    }
}

/// Numbers that look like chance (`SplitMix64`), from the same start every time.
struct Numbers(u64);

impl Numbers {
    /// The next one below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// At least `size` bytes of lines that compress about as well as program text.
    fn text(&mut self, size: u64) -> Vec<u8> {
        let mut text = String::new();
        while (text.len() as u64) < size {
            let word = self.below(400);
            text += &format!("word{word} ");
            if word.is_multiple_of(8) {
                text.push('\n');
            }
        }
        text.into_bytes()
    }
}

/// Thirty packages of 130 entries each, and the lock that names them.
pub fn packages() -> (Lock, Memory) {
    let (mut numbers, mut memory) = (Numbers(1), Memory::default());
    let packages = (0..30)
        .map(|index| {
            let (name, version) = (format!("package{index}"), format!("1:{index}.2-3+deb13u1"));
            let bytes = package(&name, &version, &mut numbers);
            PackageLock {
                path: format!("pool/main/p/{name}/{name}_{version}_amd64.deb"),
                size: bytes.len() as u64,
                sha256: memory.keep(bytes),
                name,
                version,
                architecture: "amd64".to_owned(),
                role: PackageRole::Root,
                archive: "debian".to_owned(),
            }
        })
        .collect();
    let lock = Lock {
        version: LOCK_VERSION,
        recipe: recipe().digest(),
        epoch: EPOCH,
        guest: GuestLock {
            size: 0,
            sha256: Digest::of(b""),
        },
        files: Vec::new(),
        archives: Vec::new(),
        packages,
        layers: Vec::new(),
        stages: Vec::new(),
    };
    (lock, memory)
}

/// The recipe that asks for them.
pub fn recipe() -> Recipe {
    let text = r#"
name = "loops"
version = "1.0.0"
summary = "Made up"
[debian]
suite = "trixie"
packages = ["package0"]
[kernel]
package = "linux-image-cloud-amd64"
"#;
    Recipe::parse(text).expect("the recipe is in order")
}

/// A package as dpkg writes it, but not compressed: the codecs are not ours to count.
fn package(name: &str, version: &str, numbers: &mut Numbers) -> Vec<u8> {
    let mut data = Archive::new();
    let mut sums = String::new();
    let (library, documents) = (
        format!("./usr/lib/{name}"),
        format!("./usr/share/doc/{name}"),
    );
    for folder in [
        "./",
        "./usr/",
        "./usr/lib/",
        "./usr/share/",
        "./usr/share/doc/",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([format!("{library}/"), format!("{documents}/")])
    {
        append(&mut data, &folder, Entry::Directory, Vec::new());
    }
    let copyright = [copyright(numbers), numbers.text(900)].concat();
    append(
        &mut data,
        &format!("{documents}/copyright"),
        Entry::File,
        copyright,
    );
    for index in 0..100 {
        // Every tenth name needs an extended header.
        let long = if index % 10 == 0 {
            "-of-a-long-name".repeat(7)
        } else {
            String::new()
        };
        let path = format!("{library}/part{index}{long}");
        // Every 25th file is too large to stay in the tree.
        let size = if index % 25 == 0 {
            6000
        } else {
            numbers.below(700)
        };
        sums += &format!("{:032x}  {}\n", numbers.below(u64::MAX), &path[2..]);
        append(&mut data, &path, Entry::File, numbers.text(size));
    }
    for index in 0..20 {
        let target = format!("part{index}").into_bytes();
        append(
            &mut data,
            &format!("{library}/link{index}"),
            Entry::Symlink { target },
            Vec::new(),
        );
    }
    for index in [1, 2, 3] {
        let target = format!("{library}/part{index}").into_bytes();
        append(
            &mut data,
            &format!("{library}/name{index}"),
            Entry::HardLink { target },
            Vec::new(),
        );
    }

    let mut control = Archive::new();
    let fields = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: amd64\nSource: source-of-{name} (1.0-1)\n\
         Maintainer: Nobody <nobody@example.org>\nInstalled-Size: 100\n\
         Depends: libc6 (>= 2.38), libpart1 (>= 1:4.2~rc1) | libpart2, package0\n\
         Section: utils\nPriority: optional\nHomepage: https://example.org/{name}\n\
         Description: made up\n A text of several lines,\n .\n as packages have them.\n"
    );
    append(&mut control, "./", Entry::Directory, Vec::new());
    append(&mut control, "./control", Entry::File, fields.into_bytes());
    append(&mut control, "./md5sums", Entry::File, sums.into_bytes());

    let mut package = b"!<arch>\n".to_vec();
    member(&mut package, "debian-binary", b"2.0\n");
    member(&mut package, "control.tar", &bytes(&control));
    member(&mut package, "data.tar", &bytes(&data));
    package
}

/// A machine-readable copyright file with several licences.
fn copyright(numbers: &mut Numbers) -> Vec<u8> {
    let mut text =
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n".to_owned();
    for licence in ["Expat", "GPL-2+", "BSD-3-clause or Apache-2.0", "LGPL-2.1+"] {
        let files = numbers.below(100);
        text += &format!(
            "\nFiles: part{files}*\nCopyright: 2020 Nobody\nLicense: {licence}\n A text.\n"
        );
    }
    text.into_bytes()
}

fn append(archive: &mut Archive<'_>, path: &str, kind: Entry, bytes: Vec<u8>) {
    let mode = if kind == Entry::Directory {
        0o755
    } else {
        0o644
    };
    let header = Header {
        kind,
        mode,
        ..Header::of_file(path, bytes.len() as u64, EPOCH)
    };
    archive.append(&header, bytes);
}

fn bytes(archive: &Archive<'_>) -> Vec<u8> {
    let size = usize::try_from(archive.size()).expect("a few hundred KiB");
    let mut bytes = vec![0; size];
    archive
        .read_exact_at(0, &mut bytes)
        .expect("all of it is in memory");
    bytes
}

fn member(package: &mut Vec<u8>, name: &str, content: &[u8]) {
    let size = content.len();
    let header = format!(
        "{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n",
        0, 0, 0, 100_644
    );
    package.extend(header.bytes());
    package.extend(content);
    package.resize(package.len().next_multiple_of(2), b'\n');
}

/// Some 6000 inodes: mostly small files, as in a root file system, and some of every other kind.
pub fn tree() -> (Tree, Memory) {
    let (mut numbers, mut memory) = (Numbers(2), Memory::default());
    let mut tree = Tree::new(EPOCH);
    for folder in 0..150 {
        insert(&mut tree, &format!("folder{folder}"), Kind::Directory);
        for index in 0..30 {
            let size = numbers.below(1500);
            let content = memory.content(numbers.text(size));
            insert(
                &mut tree,
                &format!("folder{folder}/file{index}"),
                Kind::file(content),
            );
        }
        let target = format!("../folder0/file{folder}").into_bytes();
        insert(
            &mut tree,
            &format!("folder{folder}/link"),
            Kind::Symlink { target },
        );
        // Files of several clusters, and another name of each.
        let size = 4096 + numbers.below(30_000);
        let content = memory.content(numbers.text(size));
        for name in ["large", "other-name"] {
            let (content, link) = (content.clone(), Some(LinkGroup(folder)));
            insert(
                &mut tree,
                &format!("folder{folder}/{name}"),
                Kind::File { content, link },
            );
        }
    }
    // One directory of many blocks.
    insert(&mut tree, "names", Kind::Directory);
    for index in 0..1500 {
        let (major, minor) = (1, index);
        insert(
            &mut tree,
            &format!("names/a-name-of-usual-length-{index}"),
            Kind::CharDevice { major, minor },
        );
    }
    (tree, memory)
}

fn insert(tree: &mut Tree, path: &str, kind: Kind) {
    let mut metadata = Metadata::of_root(0o755, EPOCH);
    // A few attributes, most of them shared.
    if path.ends_with('7') {
        metadata.xattrs.insert(
            b"security.capability".to_vec(),
            path.as_bytes()[..5].to_vec(),
        );
    }
    let origin = Origin::Recipe;
    let path = TreePath::new(path).expect("paths made here are in order");
    tree.insert(
        path,
        Node {
            metadata,
            kind,
            origin,
        },
    )
    .expect("folders come before what is in them");
}
