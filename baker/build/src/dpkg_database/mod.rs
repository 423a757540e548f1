//! The package database that dpkg would have left, for scanners and for people.
//!
//! Takes the assembled root; adds `/var/lib/dpkg` to its tree. Call it right after `assemble`,
//! while configuration files are as shipped: their hashes are recorded here, and `dpkg --verify`
//! then shows what a recipe changed.
//!
//! A running image has a tmpfs or the data partition on `/var`, so every file has a second name
//! below `/usr/share/factory`, from where systemd-tmpfiles brings it back at boot; hard links make
//! that free. Maintainer scripts, templates and symbol lists are left out: dpkg reads them only to
//! change packages, and an image is never changed.

use std::fmt::Write as _;
use std::io;

use baker_model::Tree;
use baker_model::tree::{
    Content, Contents as _, Kind, LastLink, LinkGroup, Metadata, Node, Origin, TreeError, TreePath,
    TreePathError,
};
use md5::Digest as _;

use crate::assemble::control::{Paragraph, ParagraphError};
use crate::{Assembled, Package, Spool, links};

/// Where dpkg keeps its database.
const HOME: &str = "var/lib/dpkg";
/// Where it is found again at run time.
const FACTORY: &str = "usr/share/factory";
/// Bytes hashed at a time.
const BUFFER: usize = 64 * 1024;

/// The fields that dpkg knows, in the order in which it writes a stanza of `status`
/// (`fieldinfos` in dpkg's lib/dpkg/parse.c); all others follow as they come.
const ORDER: [&str; 27] = [
    "Package",
    "Essential",
    "Protected",
    "Status",
    "Priority",
    "Section",
    "Installed-Size",
    "Origin",
    "Maintainer",
    "Bugs",
    "Architecture",
    "Multi-Arch",
    "Source",
    "Version",
    "Config-Version",
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Conflicts",
    "Enhances",
    "Conffiles",
    "Description",
    "Triggers-Pending",
];

/// The database cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// A control file cannot be read.
    #[error("cannot record package {package}: its control file cannot be read")]
    Control {
        /// Package name.
        package: String,
        /// What is wrong, and in which line.
        #[source]
        source: ParagraphError,
    },
    /// A control member of a package cannot be read.
    #[error("cannot record package {package}: its `{member}` is no list of paths")]
    Member {
        /// Package name.
        package: String,
        /// The member.
        member: &'static str,
    },
    /// The content of a file cannot be read or kept.
    #[error("cannot record package {package}: the content of {path} cannot be read or kept")]
    Content {
        /// Package name.
        package: String,
        /// The file.
        path: TreePath,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A name is too long.
    #[error("cannot record package {package}")]
    Name {
        /// Package name.
        package: String,
        /// The name.
        #[source]
        source: TreePathError,
    },
    /// A package put something else where the database belongs.
    #[error("the package database has no place in the tree")]
    Place(#[source] TreeError),
}

/// Adds the database of all packages to the tree.
///
/// # Errors
/// See [`DatabaseError`].
pub fn record(assembled: &mut Assembled, spool: &Spool, epoch: i64) -> Result<(), DatabaseError> {
    let mut files: Vec<(String, Vec<u8>)> = ["available", "diversions", "statoverride"]
        .map(|name| (name.to_owned(), Vec::new()))
        .into();
    files.push(("info/format".to_owned(), b"1\n".to_vec()));
    let mut packages: Vec<&Package> = assembled.packages.iter().collect();
    packages.sort_by_key(|package| (&package.lock.name, &package.lock.architecture));
    let mut status = String::new();
    for package in packages {
        let entry = Record::new(package, &assembled.tree, spool)?;
        status += &entry.stanza();
        status.push('\n');
        files.extend(entry.info()?);
    }
    files.push(("status".to_owned(), status.into_bytes()));
    let group = links::free_group(&assembled.tree);
    let mut writer = Writer {
        tree: &mut assembled.tree,
        spool,
        epoch,
        group,
    };
    writer.directory(HOME, "updates")?;
    for (name, bytes) in files {
        writer.file(&name, &bytes)?;
    }
    links::settle(&mut assembled.tree);
    Ok(())
}

/// What is recorded of one package.
struct Record<'a> {
    package: &'a Package,
    paragraph: Paragraph,
    /// Path and MD5 of each configuration file that is there.
    conffiles: Vec<(String, String)>,
    tree: &'a Tree,
    spool: &'a Spool,
}

impl<'a> Record<'a> {
    fn new(package: &'a Package, tree: &'a Tree, spool: &'a Spool) -> Result<Self, DatabaseError> {
        let name = &package.lock.name;
        let paragraph =
            Paragraph::parse(&package.control).map_err(|source| DatabaseError::Control {
                package: name.clone(),
                source,
            })?;
        let mut record = Self {
            package,
            paragraph,
            conffiles: Vec::new(),
            tree,
            spool,
        };
        let text = package
            .members
            .get("conffiles")
            .map_or(&[][..], Vec::as_slice);
        let bad = || DatabaseError::Member {
            package: name.clone(),
            member: "conffiles",
        };
        for line in std::str::from_utf8(text).map_err(|_| bad())?.lines() {
            // Lines may begin with a flag; `remove-on-upgrade` names a file that is not shipped.
            if line.trim().is_empty() || !line.starts_with('/') {
                continue;
            }
            let path = TreePath::new(line.trim_end()).map_err(|_| bad())?;
            if let Some(md5) = record.md5(&path)? {
                record.conffiles.push((line.trim_end().to_owned(), md5));
            }
        }
        Ok(record)
    }

    fn stanza(&self) -> String {
        let mut text = String::new();
        for name in ORDER {
            match name {
                "Status" => text += "Status: install ok installed\n",
                "Conffiles" if !self.conffiles.is_empty() => {
                    text += "Conffiles:\n";
                    for (path, md5) in &self.conffiles {
                        text += &format!(" {path} {md5}\n");
                    }
                }
                _ => text += &self.field(name),
            }
        }
        let known = |name: &str| ORDER.iter().any(|known| known.eq_ignore_ascii_case(name));
        for (name, _) in self.paragraph.fields().filter(|(name, _)| !known(name)) {
            text += &self.field(name);
        }
        text
    }

    /// dpkg puts no blank after the colon when the value begins in the next line.
    fn field(&self, name: &str) -> String {
        match self.paragraph.get(name) {
            None => String::new(),
            Some(value) if value.is_empty() || value.starts_with('\n') => {
                format!("{name}:{value}\n")
            }
            Some(value) => format!("{name}: {value}\n"),
        }
    }

    /// The files of this package below `info`.
    fn info(&self) -> Result<Vec<(String, Vec<u8>)>, DatabaseError> {
        let lock = &self.package.lock;
        // dpkg names the architecture only where two can be installed side by side.
        let stem = match self.paragraph.get("Multi-Arch") {
            Some("same") => format!("info/{}:{}", lock.name, lock.architecture),
            _ => format!("info/{}", lock.name),
        };
        let mut files = vec![(format!("{stem}.list"), self.list())];
        if let Some(conffiles) = self.package.members.get("conffiles") {
            files.push((format!("{stem}.conffiles"), conffiles.clone()));
        }
        let md5sums = match self.package.members.get("md5sums") {
            Some(md5sums) => md5sums.clone(),
            None => self.md5sums()?,
        };
        files.push((format!("{stem}.md5sums"), md5sums));
        Ok(files)
    }

    fn list(&self) -> Vec<u8> {
        let mut list = Vec::new();
        for path in &self.package.paths {
            let name: &[u8] = if path.is_root() {
                b"."
            } else {
                path.as_bytes()
            };
            list.extend([b"/", name, b"\n"].concat());
        }
        list
    }

    /// As dpkg does for a package that brings no `md5sums`: every file but configuration files.
    fn md5sums(&self) -> Result<Vec<u8>, DatabaseError> {
        let mut list = Vec::new();
        for path in &self.package.paths {
            let name = path.to_string();
            if self.conffiles.iter().any(|(conffile, _)| *conffile == name) {
                continue;
            }
            if let Some(md5) = self.md5(path)? {
                list.extend([md5.as_bytes(), b"  ", path.as_bytes(), b"\n"].concat());
            }
        }
        Ok(list)
    }

    /// MD5 of the regular file at `path`, in hex; none when it is something else.
    fn md5(&self, path: &TreePath) -> Result<Option<String>, DatabaseError> {
        // The directory is followed (merged /usr), a symlink at the end is no regular file.
        let landed = self.tree.resolve(path, LastLink::Keep);
        let node = landed.as_ref().and_then(|landed| self.tree.get(landed));
        let Some(Node {
            kind: Kind::File { content, .. },
            ..
        }) = node
        else {
            return Ok(None);
        };
        let mut hash = md5::Md5::new();
        match content {
            Content::Inline(bytes) => hash.update(bytes),
            Content::Extern { digest, size } => {
                let mut buffer = vec![0; BUFFER];
                let mut done = 0;
                while done < *size {
                    let count = usize::try_from(size - done).unwrap_or(BUFFER).min(BUFFER);
                    let part = &mut buffer[..count];
                    self.spool
                        .read_exact_at(digest, done, part)
                        .map_err(|source| {
                            let (package, path) = (self.package.lock.name.clone(), path.clone());
                            DatabaseError::Content {
                                package,
                                path,
                                source,
                            }
                        })?;
                    hash.update(&*part);
                    done += count as u64;
                }
            }
        }
        let mut text = String::with_capacity(32);
        for byte in hash.finalize() {
            write!(text, "{byte:02x}").expect("a String takes all text");
        }
        Ok(Some(text))
    }
}

/// Puts files at both places.
struct Writer<'a> {
    tree: &'a mut Tree,
    spool: &'a Spool,
    epoch: i64,
    /// The next free one.
    group: LinkGroup,
}

impl Writer<'_> {
    fn directory(&mut self, home: &str, name: &str) -> Result<(), DatabaseError> {
        for home in [home.to_owned(), format!("{FACTORY}/{home}")] {
            let path = place(&format!("{home}/{name}"))?;
            if self.tree.get(&path).is_none() {
                self.put(path, Kind::Directory, 0o755)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), DatabaseError> {
        let path = place(&format!("{HOME}/{name}"))?;
        let content = self.spool.add(&mut &bytes[..], bytes.len() as u64);
        let content = content.map_err(|source| DatabaseError::Content {
            package: "dpkg-database".to_owned(),
            path: path.clone(),
            source,
        })?;
        let kind = Kind::File {
            content,
            link: Some(self.group),
        };
        self.group.0 += 1;
        self.put(
            place(&format!("{FACTORY}/{HOME}/{name}"))?,
            kind.clone(),
            0o644,
        )?;
        self.put(path, kind, 0o644)
    }

    fn put(&mut self, path: TreePath, kind: Kind, mode: u16) -> Result<(), DatabaseError> {
        let metadata = Metadata::of_root(mode, self.epoch);
        let node = Node {
            metadata,
            kind,
            origin: Origin::Effect("dpkg-database"),
        };
        self.tree
            .ensure_parents(&path, self.epoch)
            .map_err(DatabaseError::Place)?;
        self.tree
            .insert(path, node)
            .map(drop)
            .map_err(DatabaseError::Place)
    }
}

fn place(path: &str) -> Result<TreePath, DatabaseError> {
    TreePath::new(path).map_err(|source| DatabaseError::Name {
        package: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
