//! A small root as an EROFS image; tests only.

use std::io::Cursor;
use std::sync::Arc;

use baker_formats::erofs::{self, Compression, Options};
use baker_formats::io::Part;
use baker_model::tree::{Content, Kind, Metadata, NoContents, Node, Origin, TreePath};
use baker_model::{Interrupt, Tree};

/// Names, modes and contents; a content that begins with `->` is the target of a link.
pub(crate) type Names<'a> = Vec<(&'a str, u16, &'a str)>;

/// What a small system has.
pub(crate) fn system<'a>() -> Names<'a> {
    vec![
        ("bin", 0o777, "->usr/bin"),
        ("usr/bin/su", 0o4755, "su program"),
        ("usr/bin/tool", 0o755, "tool program"),
        ("usr/bin/stray", 0o755, "nobody's"),
        (
            "usr/lib/os-release",
            0o644,
            "NAME=Tiny\nPRETTY_NAME=\"Tiny 1\"\n",
        ),
        ("etc/os-release", 0o777, "->../usr/lib/os-release"),
        ("etc/motd", 0o644, "one\ntwo\nthree\n"),
        (
            "etc/systemd/system/multi-user.target.wants/a.service",
            0o777,
            "->/usr/lib/systemd/system/a.service",
        ),
        ("etc/systemd/system/b.service", 0o777, "->/dev/null"),
        (
            "usr/lib/systemd/system/c.target.wants/c.service",
            0o777,
            "->../c.service",
        ),
        ("usr/lib/modules/6.1/kernel/fs/x.ko.xz", 0o644, "module"),
        (
            "boot/grub/grub.cfg",
            0o644,
            "menuentry {\n  linux /boot/vmlinuz root=/dev/vda1 quiet\n}\n",
        ),
        (
            "var/lib/dpkg/status",
            0o644,
            "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
             Package: tool\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.0-1\n\n\
             Package: su\nStatus: install ok installed\nArchitecture: all\nVersion: 2\n",
        ),
        // dpkg lists names as packages ship them: through the link.
        (
            "var/lib/dpkg/info/tool:amd64.list",
            0o644,
            "/.\n/bin\n/bin/tool\n",
        ),
        (
            "var/lib/dpkg/info/su.list",
            0o644,
            "/usr/bin/su\n/etc/motd\n",
        ),
    ]
}

/// The image of these names.
pub(crate) fn image(names: &Names<'_>) -> Vec<u8> {
    let mut tree = Tree::new(0);
    for (path, mode, content) in names {
        let path = TreePath::new(path).unwrap();
        tree.ensure_parents(&path, 0).unwrap();
        let kind = match content.strip_prefix("->") {
            Some(target) => Kind::Symlink {
                target: target.into(),
            },
            None => Kind::file(Content::inline(*content)),
        };
        let node = Node {
            metadata: Metadata::of_root(*mode, 0),
            kind,
            origin: Origin::Implied,
        };
        tree.insert(path, node).unwrap();
    }
    let options = Options {
        compression: Compression::None,
        ..Options::default()
    };
    let request = erofs::Request {
        tree: &tree,
        contents: &NoContents,
        parcels: None,
        first: &[],
        options: &options,
        interrupt: &Interrupt::new(),
        progress: &|_| {},
    };
    let mut out = Cursor::new(Vec::new());
    erofs::write(&request, &mut out).unwrap();
    out.into_inner()
}

/// Bytes as what can be looked into.
pub(crate) fn part(bytes: Vec<u8>) -> Part {
    let size = bytes.len() as u64;
    Part::new(Arc::new(bytes), size)
}
