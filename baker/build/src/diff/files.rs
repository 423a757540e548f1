//! Files of two roots, name by name.

use std::collections::BTreeSet;
use std::io::{self, Write};

use baker_formats::volume::{Entry, EntryKind, Volume};
use baker_model::tree::TreePath;
use baker_model::{Digest, Digester, Interrupt};
use serde::Serialize;
use similar::TextDiff;

use super::OpenDisk;

/// Larger texts are not shown line by line.
const TEXT_LIMIT: u64 = 256 << 10;

/// Where configuration lies: changes of text below are shown line by line.
const CONFIGURATION: [&[u8]; 14] = [
    b"etc/",
    b"boot/grub/",
    b"boot/loader/",
    b"usr/lib/systemd/",
    b"usr/lib/sysctl.d/",
    b"usr/lib/sysusers.d/",
    b"usr/lib/tmpfiles.d/",
    b"usr/lib/modules-load.d/",
    b"usr/lib/modprobe.d/",
    b"usr/lib/udev/rules.d/",
    b"usr/lib/environment.d/",
    b"usr/lib/os-release",
    b"usr/share/dbus-1/",
    b"usr/lib/NetworkManager/",
];

/// One name that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileChange {
    /// Its path.
    pub path: String,
    /// The package that it belongs to.
    pub package: Option<String>,
    /// `added`, `removed` or `changed`.
    pub change: &'static str,
    /// Bytes on the first side.
    pub from_size: u64,
    /// Bytes on the second side.
    pub to_size: u64,
    /// What of it differs; of what was added or removed, its mode.
    pub fields: Vec<Field>,
}

/// Something of a file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Field {
    /// `type`, `mode`, `owner`, `target`, `device`, `content`, or the name of an attribute.
    pub name: String,
    /// As the first side has it.
    pub from: String,
    /// As the second side has it.
    pub to: String,
}

/// Configuration that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TextChange {
    /// Path of the file.
    pub path: String,
    /// The unified diff, with three lines around each change.
    pub unified: String,
}

/// Files that differ, and configuration among them line by line.
pub(super) fn compare(
    from: &OpenDisk<'_>,
    to: &OpenDisk<'_>,
    interrupt: &Interrupt,
) -> io::Result<(Vec<FileChange>, Vec<TextChange>)> {
    let (mut changes, mut texts) = (Vec::new(), Vec::new());
    let (Some((_, left)), Some((_, right))) = (&from.look.root, &to.look.root) else {
        return Ok((changes, texts));
    };
    let told = |name| !from.survey.untold.contains(&name) && !to.survey.untold.contains(&name);
    let scope = Scope {
        xattrs: told("extended attributes"),
        devices: told("device numbers"),
    };
    let paths: BTreeSet<&TreePath> = left
        .entries()
        .keys()
        .chain(right.entries().keys())
        .collect();
    for path in paths {
        if interrupt.is_raised() {
            return Err(io::Error::other("interrupted"));
        }
        let (before, after) = (left.entries().get(path), right.entries().get(path));
        let owner = to.owners.of(path).or_else(|| from.owners.of(path));
        let fields = match (before, after) {
            (Some(before), Some(after)) => {
                let mut fields = scope.fields(before, after);
                if let Some((from, to)) = contents(path, (left, before), (right, after))? {
                    texts.extend(text(path, left, right)?);
                    fields.push(field("content", from.to_string(), to.to_string()));
                }
                if fields.is_empty() {
                    continue;
                }
                fields
            }
            (before, after) => vec![field("mode", shown(before), shown(after))],
        };
        changes.push(FileChange {
            path: path.to_string(),
            package: owner.map(str::to_owned),
            change: match (before, after) {
                (None, _) => "added",
                (_, None) => "removed",
                _ => "changed",
            },
            from_size: before.map_or(0, Entry::size),
            to_size: after.map_or(0, Entry::size),
            fields,
        });
    }
    Ok((changes, texts))
}

fn field(name: &str, from: String, to: String) -> Field {
    Field {
        name: name.to_owned(),
        from,
        to,
    }
}

/// Type, mode and owner of a name that one side has.
fn shown(entry: Option<&Entry>) -> String {
    entry.map_or_else(String::new, |entry| {
        let Entry { metadata, kind, .. } = entry;
        format!(
            "{} {:04o} {}:{}",
            kind_name(kind),
            metadata.mode,
            metadata.uid,
            metadata.gid
        )
    })
}

const fn kind_name(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::Directory => "directory",
        EntryKind::File { .. } => "file",
        EntryKind::Symlink { .. } => "symlink",
        EntryKind::CharDevice { .. } => "char-device",
        EntryKind::BlockDevice { .. } => "block-device",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
    }
}

/// What both readers tell.
struct Scope {
    xattrs: bool,
    devices: bool,
}

impl Scope {
    /// What differs apart from the content.
    fn fields(&self, from: &Entry, to: &Entry) -> Vec<Field> {
        let mut fields = Vec::new();
        let mut add = |name: &str, from: String, to: String| {
            if from != to {
                fields.push(field(name, from, to));
            }
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        add(
            "type",
            kind_name(&from.kind).into(),
            kind_name(&to.kind).into(),
        );
        let (old, new) = (&from.metadata, &to.metadata);
        add(
            "mode",
            format!("{:04o}", old.mode),
            format!("{:04o}", new.mode),
        );
        add(
            "owner",
            format!("{}:{}", old.uid, old.gid),
            format!("{}:{}", new.uid, new.gid),
        );
        let target = |kind: &EntryKind| match kind {
            EntryKind::Symlink { target } => text(target),
            _ => String::new(),
        };
        add("target", target(&from.kind), target(&to.kind));
        let device = |kind: &EntryKind| match kind {
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                format!("{major}:{minor}")
            }
            _ => String::new(),
        };
        if self.devices {
            add("device", device(&from.kind), device(&to.kind));
        }
        if self.xattrs {
            let names: BTreeSet<_> = old.xattrs.keys().chain(new.xattrs.keys()).collect();
            for name in names {
                let value = |of: &baker_model::tree::Metadata| {
                    of.xattrs
                        .get(name)
                        .map_or_else(String::new, |value| value.escape_ascii().to_string())
                };
                add(&text(name), value(old), value(new));
            }
        }
        fields
    }
}

/// The digests of two files that differ; none when they are equal or not both files.
fn contents(
    path: &TreePath,
    from: (&Volume, &Entry),
    to: (&Volume, &Entry),
) -> io::Result<Option<(Digest, Digest)>> {
    let (EntryKind::File { .. }, EntryKind::File { .. }) = (&from.1.kind, &to.1.kind) else {
        return Ok(None);
    };
    let (left, right) = (digest(from.0, path)?, digest(to.0, path)?);
    Ok((left != right).then_some((left, right)))
}

/// Digest of a file, read piece by piece.
pub(crate) fn digest(volume: &Volume, path: &TreePath) -> io::Result<Digest> {
    struct Hashing(Digester);
    impl Write for Hashing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hashing = Hashing(Digester::new());
    volume.copy(path, &mut hashing).map_err(|error| {
        let text = format!("cannot read {path}: {error}");
        io::Error::new(error.kind(), text)
    })?;
    Ok(hashing.0.finish())
}

/// The unified diff of a file of configuration; none when it is none, or no text.
fn text(path: &TreePath, from: &Volume, to: &Volume) -> io::Result<Option<TextChange>> {
    let is_configuration = CONFIGURATION
        .iter()
        .any(|prefix| path.as_bytes().starts_with(prefix));
    if !is_configuration {
        return Ok(None);
    }
    let (Some(before), Some(after)) = (from.read(path, TEXT_LIMIT)?, to.read(path, TEXT_LIMIT)?)
    else {
        return Ok(None);
    };
    let (Ok(before), Ok(after)) = (str::from_utf8(&before), str::from_utf8(&after)) else {
        return Ok(None);
    };
    if before.contains('\0') || after.contains('\0') {
        return Ok(None);
    }
    let name = path.to_string();
    let diff = TextDiff::from_lines(before, after);
    let unified = diff
        .unified_diff()
        .context_radius(3)
        .header(&format!("a{name}"), &format!("b{name}"))
        .to_string();
    Ok(Some(TextChange {
        path: name,
        unified,
    }))
}
