//! The same folder packed by the field's own tools, read back.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::judge::{judge, run};

/// A folder with what images hold: depth, sizes from nothing to more than a block, links.
fn folder(at: &Path) {
    fs::create_dir_all(at.join("usr/bin/deep")).unwrap();
    fs::write(at.join("usr/bin/empty"), b"").unwrap();
    fs::write(at.join("usr/bin/tool"), vec![b'x'; 300_000]).unwrap();
    fs::set_permissions(at.join("usr/bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::write(at.join("usr/bin/deep/note"), b"hello\n").unwrap();
    std::os::unix::fs::symlink("usr/bin", at.join("bin")).unwrap();
    std::os::unix::fs::symlink("/bin/deep/note", at.join("note")).unwrap();
    std::os::unix::fs::symlink("loop", at.join("loop")).unwrap();
}

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn part(file: &Path) -> Part {
    let file = File::open(file).unwrap();
    let size = file.metadata().unwrap().len();
    Part::new(Arc::new(file), size)
}

#[test]
fn volumes_of_the_foreign_tools_are_read() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("root");
    folder(&root);
    let root = root.to_str().unwrap();
    let rows: [(&str, &[&str], Format); 6] = [
        (
            "mkfs.ext4",
            &["-q", "-d", root, "image", "8M"],
            Format::Ext4,
        ),
        (
            "mkfs.ext4",
            &[
                "-q",
                "-O^extents,^64bit",
                "-b1024",
                "-d",
                root,
                "image",
                "8M",
            ],
            Format::Ext4,
        ),
        (
            "mksquashfs",
            &[root, "image", "-quiet", "-no-progress", "-comp", "zstd"],
            Format::Squashfs,
        ),
        (
            "mksquashfs",
            &[root, "image", "-quiet", "-no-progress", "-comp", "xz"],
            Format::Squashfs,
        ),
        ("mkfs.erofs", &["image", root], Format::Erofs),
        ("tar", &["-C", root, "-cf", "image", "."], Format::Tar),
    ];
    for (tool, arguments, format) in rows {
        let Some(mut command) = judge(tool) else {
            continue;
        };
        drop(fs::remove_file(home.path().join("image")));
        let (ok, said) = run(command.current_dir(home.path()).args(arguments));
        assert!(ok, "{tool}: {said}");
        let part = part(&home.path().join("image"));
        assert_eq!(probe(&part).unwrap(), Content::Volume(format), "{tool}");
        let volume = Volume::open(part, format).unwrap();
        check(&volume, tool);
    }
}

fn check(volume: &Volume, tool: &str) {
    let (_, entry) = volume.find(&path("bin/tool")).unwrap();
    assert_eq!(entry.metadata.mode, 0o4755, "{tool}");
    assert_eq!(entry.size(), 300_000, "{tool}");
    let bytes = volume.read(&path("/bin/tool"), 1 << 20).unwrap().unwrap();
    assert!(bytes == vec![b'x'; 300_000], "{tool}");
    let note = volume.read(&path("note"), 100).unwrap();
    assert_eq!(note.as_deref(), Some(&b"hello\n"[..]), "{tool}");
    assert_eq!(volume.read(&path("note"), 3).unwrap(), None, "{tool}");
    assert_eq!(
        volume.read(&path("bin/empty"), 0).unwrap(),
        Some(Vec::new())
    );
    assert!(volume.find(&path("loop")).is_none(), "{tool}");
    let target = &volume.entries()[&path("bin")].kind;
    let expected = EntryKind::Symlink {
        target: b"usr/bin".to_vec(),
    };
    assert_eq!(*target, expected, "{tool}");
    let names = volume.entries().keys();
    let names: Vec<_> = names.map(ToString::to_string).collect();
    let names: Vec<_> = names
        .iter()
        .filter(|name| !name.contains("lost+found"))
        .collect();
    let all = [
        "/",
        "/bin",
        "/loop",
        "/note",
        "/usr",
        "/usr/bin",
        "/usr/bin/deep",
        "/usr/bin/deep/note",
        "/usr/bin/empty",
        "/usr/bin/tool",
    ];
    assert_eq!(names, all.iter().collect::<Vec<_>>(), "{tool}");
}
