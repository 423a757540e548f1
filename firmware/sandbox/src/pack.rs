//! The tree as an archive: everything on its own file system, sorted by name.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use tar::{Builder, EntryType, Header};

/// Packs what is below `root`; of it only these absolute paths, when there are any.
pub fn pack(root: &Path, outputs: &[String], out: &mut dyn Write) -> io::Result<()> {
    let metadata = fs::symlink_metadata(root)?;
    let mut packer = Packer {
        device: metadata.dev(),
        builder: Builder::new(out),
        links: HashMap::new(),
    };
    if outputs.is_empty() {
        packer.directory(root, Path::new("."), &metadata)?;
    }
    for path in outputs {
        let name = path.trim_start_matches('/');
        let entry = packer.entry(&root.join(name), &Path::new(".").join(name));
        entry.map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    }
    packer.builder.into_inner().map(drop)
}

struct Packer<'a> {
    device: u64,
    builder: Builder<&'a mut dyn Write>,
    /// The first name of every file that has several.
    links: HashMap<u64, PathBuf>,
}

impl Packer<'_> {
    fn directory(&mut self, at: &Path, name: &Path, metadata: &Metadata) -> io::Result<()> {
        self.attributes(at)?;
        let mut header = header(metadata, EntryType::Directory);
        self.builder
            .append_data(&mut header, slashed(name), io::empty())?;
        let entries: io::Result<Vec<_>> = fs::read_dir(at)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect();
        let mut entries = entries?;
        entries.sort();
        for entry in entries {
            self.entry(&at.join(&entry), &name.join(&entry))?;
        }
        Ok(())
    }

    fn entry(&mut self, at: &Path, name: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(at)?;
        let kind = metadata.file_type();
        if metadata.dev() != self.device {
            return Ok(());
        }
        if kind.is_dir() {
            return self.directory(at, name, &metadata);
        }
        if kind.is_symlink() {
            let target = fs::read_link(at)?;
            let mut header = header(&metadata, EntryType::Symlink);
            return self.builder.append_link(&mut header, name, target);
        }
        if metadata.nlink() > 1 {
            if let Some(first) = self.links.get(&metadata.ino()) {
                let mut header = header(&metadata, EntryType::Link);
                return self.builder.append_link(&mut header, name, first);
            }
            self.links.insert(metadata.ino(), name.to_owned());
        }
        if kind.is_file() {
            self.attributes(at)?;
            let mut header = header(&metadata, EntryType::Regular);
            header.set_size(metadata.size());
            return self.builder.append_data(&mut header, name, File::open(at)?);
        }
        let special = if kind.is_fifo() {
            EntryType::Fifo
        } else if kind.is_char_device() {
            EntryType::Char
        } else if kind.is_block_device() {
            EntryType::Block
        } else {
            // A socket means something only while somebody listens.
            return Ok(());
        };
        let mut header = header(&metadata, special);
        let number = |number: u64| u32::try_from(number).map_err(io::Error::other);
        header.set_device_major(number(major(metadata.rdev()))?)?;
        header.set_device_minor(number(minor(metadata.rdev()))?)?;
        self.builder.append_data(&mut header, name, io::empty())
    }

    /// Extended attributes go before their entry.
    fn attributes(&mut self, at: &Path) -> io::Result<()> {
        let mut found = Vec::new();
        for name in xattr::list(at)? {
            if let (Some(value), Some(name)) = (xattr::get(at, &name)?, name.to_str()) {
                found.push((format!("SCHILY.xattr.{name}"), value));
            }
        }
        found.sort();
        let records = found.iter().map(|(key, value)| (key.as_str(), &value[..]));
        match found.is_empty() {
            true => Ok(()),
            false => self.builder.append_pax_extensions(records),
        }
    }
}

fn header(metadata: &Metadata, kind: EntryType) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(metadata.mode() & 0o7777);
    header.set_uid(metadata.uid().into());
    header.set_gid(metadata.gid().into());
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or_default());
    header.set_size(0);
    header
}

/// A directory's name ends in a slash.
fn slashed(name: &Path) -> PathBuf {
    let mut bytes = name.as_os_str().as_bytes().to_vec();
    bytes.push(b'/');
    PathBuf::from(std::ffi::OsStr::from_bytes(&bytes))
}
