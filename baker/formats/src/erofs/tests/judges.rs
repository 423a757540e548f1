//! `fsck.erofs` and the kernel of this machine.
//!
//! `BAKER_EROFS_JUDGE` names an `fsck.erofs` that knows Zstandard (erofs-utils 1.8);
//! `scripts/judges` makes one. Without it the installed one judges what it knows.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use baker_model::Tree;
use baker_model::tree::{Contents, Kind, Node, TreePath};

use super::super::{Compression, read};
use super::fixtures::{Builder, COMPRESSIONS, image, options, zoo};
use crate::judge;

/// The judge for this compression, or none with a loud line.
fn fsck(compression: Compression) -> Option<Command> {
    if let Some(path) = std::env::var_os("BAKER_EROFS_JUDGE") {
        return Some(Command::new(path));
    }
    if matches!(compression, Compression::Zstd { .. }) {
        let strict = std::env::var("BAKER_STRICT").as_deref() == Ok("1");
        assert!(
            !strict,
            "BAKER_EROFS_JUDGE is not set; scripts/judges makes that judge"
        );
        eprintln!("SKIPPED a check: BAKER_EROFS_JUDGE is not set; scripts/judges makes that judge");
        return None;
    }
    judge::judge("fsck.erofs")
}

/// Lets `fsck.erofs` unpack every file of an image.
pub fn check(path: &Path, compression: Compression) {
    let Some(mut command) = fsck(compression) else {
        return;
    };
    let (content, said) = judge::run(command.arg("--extract").arg(path));
    assert!(content, "{compression:?}: {said}");
}

#[test]
fn fsck_is_content_and_what_it_extracts_is_the_tree() {
    let zoo = zoo();
    for compression in COMPRESSIONS {
        let (bytes, _) = image(&zoo, &options(compression, 2)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        fs::write(&path, &bytes).unwrap();
        check(&path, compression);
        let mut other = Builder::clone(&zoo);
        other.first = vec![TreePath::new("usr/lib/library").unwrap()];
        let (bytes, _) = image(&other, &options(compression, 2)).unwrap();
        fs::write(&path, &bytes).unwrap();
        check(&path, compression);
        let Some(mut command) = fsck(compression) else {
            continue;
        };
        if !root() {
            eprintln!("SKIPPED a check: extracting owners and devices needs root");
            continue;
        }
        let out = folder.path().join("out");
        let mut argument = std::ffi::OsString::from("--extract=");
        argument.push(&out);
        let (content, said) = judge::run(command.arg(argument).arg("--preserve").arg(&path));
        assert!(content, "{compression:?}: {said}");
        compare(&zoo.tree, &zoo.contents, &out, Times::Files);
    }
}

#[test]
fn the_kernel_shows_the_tree() {
    let zoo = zoo();
    for compression in COMPRESSIONS {
        let (bytes, _) = image(&zoo, &options(compression, 2)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (path, point) = (folder.path().join("image"), folder.path().join("point"));
        fs::write(&path, &bytes).unwrap();
        fs::create_dir(&point).unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "erofs", "-o", "loop,ro"])
            .arg(&path)
            .arg(&point);
        if !root() || !judge::run(&mut mount).0 {
            eprintln!("SKIPPED a check: EROFS images cannot be mounted here");
            return;
        }
        let seen = std::panic::catch_unwind(|| {
            compare(&zoo.tree, &zoo.contents, &point, Times::All);
        });
        let (unmounted, said) = judge::run(Command::new("umount").arg(&point));
        assert!(unmounted, "{said}");
        if let Err(panic) = seen {
            std::panic::resume_unwind(panic);
        }
        let (tree, _) = read(&bytes).unwrap();
        assert_eq!(tree.len(), zoo.tree.len());
    }
}

fn root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Which times are compared: extracting a tree changes those of directories and links.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    Files,
    All,
}

fn compare(tree: &Tree, contents: &dyn Contents, at: &Path, times: Times) {
    use std::os::unix::ffi::OsStrExt;
    let mut names = 0;
    for (path, node) in tree.walk() {
        let real = at.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
        let found = fs::symlink_metadata(&real).unwrap_or_else(|e| panic!("{path}: {e}"));
        let metadata = &node.metadata;
        let mode = u32::from(metadata.mode);
        assert_eq!(found.mode() & 0o7777, mode, "mode of {path}");
        assert_eq!(
            (found.uid(), found.gid()),
            (metadata.uid, metadata.gid),
            "owner of {path}"
        );
        if times == Times::All || matches!(node.kind, Kind::File { link: None, .. }) {
            assert_eq!(found.mtime(), metadata.mtime, "time of {path}");
        }
        compare_kind(tree, contents, (path, node), &real, &found);
        if times == Times::All {
            compare_attributes(path, node, &real);
        }
        names += 1;
    }
    assert_eq!(names, tree.len());
}

fn compare_kind(
    tree: &Tree,
    contents: &dyn Contents,
    (path, node): (&TreePath, &Node),
    real: &Path,
    found: &fs::Metadata,
) {
    let kind = found.file_type();
    match &node.kind {
        Kind::Directory => {
            let expected = tree.children(path).count();
            assert_eq!(
                fs::read_dir(real).unwrap().count(),
                expected,
                "entries of {path}"
            );
        }
        Kind::File { content, link } => {
            let names = tree.walk().filter(|(_, other)| {
                link.is_some() && matches!(&other.kind, Kind::File { link: l, .. } if l == link)
            });
            assert_eq!(
                found.nlink(),
                names.count().max(1) as u64,
                "links of {path}"
            );
            let bytes = match content {
                baker_model::tree::Content::Inline(bytes) => bytes.to_vec(),
                baker_model::tree::Content::Extern { digest, size } => {
                    let mut bytes = vec![0; usize::try_from(*size).unwrap()];
                    contents.read_exact_at(digest, 0, &mut bytes).unwrap();
                    bytes
                }
            };
            assert!(fs::read(real).unwrap() == bytes, "content of {path}");
        }
        Kind::Symlink { target } => {
            use std::os::unix::ffi::OsStrExt;
            assert_eq!(
                fs::read_link(real).unwrap().as_os_str().as_bytes(),
                target,
                "{path}"
            );
        }
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            let device = found.rdev();
            let seen = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
            assert_eq!(
                seen,
                (u64::from(*major), u64::from(*minor)),
                "device of {path}"
            );
            assert!(kind.is_char_device() == matches!(node.kind, Kind::CharDevice { .. }));
        }
        Kind::Fifo => assert!(kind.is_fifo(), "{path}"),
        Kind::Socket => assert!(kind.is_socket(), "{path}"),
    }
}

fn compare_attributes(path: &TreePath, node: &Node, real: &Path) {
    if node.metadata.xattrs.is_empty() {
        return;
    }
    let Some(mut command) = judge::judge("python3") else {
        return;
    };
    let program = "import os, sys\nfor n in os.listxattr(sys.argv[1], follow_symlinks=False):\n \
                   print(n, os.getxattr(sys.argv[1], n, follow_symlinks=False).hex())";
    let (content, said) = judge::run(command.args(["-c", program]).arg(real));
    assert!(content, "{said}");
    let mut seen: Vec<&str> = said.lines().map(str::trim_end).collect();
    seen.sort_unstable();
    let mut expected: Vec<String> = Vec::new();
    for (name, value) in &node.metadata.xattrs {
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        expected.push(
            format!("{} {hex}", String::from_utf8_lossy(name))
                .trim_end()
                .to_owned(),
        );
    }
    expected.sort_unstable();
    assert_eq!(seen, expected, "attributes of {path}");
}
