//! The image as foreign tools see it.

use std::num::NonZeroUsize;

use baker_model::Interrupt;
use baker_model::tree::{Content, Kind as NodeKind, Metadata, NoContents, Node, Origin};

use super::*;
use crate::judge::{judge, run};

fn tree() -> Tree {
    let mut tree = Tree::new(9);
    let mut put = |path: &str, kind| {
        let path = TreePath::new(path).unwrap();
        tree.ensure_parents(&path, 9).unwrap();
        let node = Node {
            metadata: Metadata::of_root(0o755, 9),
            kind,
            origin: Origin::Recipe,
        };
        tree.insert(path, node).unwrap();
    };
    put("usr/sbin/init", NodeKind::file(Content::inline("#!init")));
    let target = b"usr/sbin".to_vec();
    put("sbin", NodeKind::Symlink { target });
    tree
}

/// Makes the image in `folder`; gives what the layer is.
fn made(folder: &Path, tree: &Tree) -> Archived {
    let layer = folder.join("layer");
    let archived = crate::archive::archive(&crate::archive::Request {
        tree,
        contents: &NoContents,
        out: &layer,
        threads: NonZeroUsize::MIN,
        interrupt: &Interrupt::new(),
    })
    .unwrap();
    let out = folder.join("image.tar");
    let size = oci(&Request {
        name: "tiny",
        version: "1.2.3",
        architecture: Architecture::Amd64,
        epoch: 1_700_000_000,
        tree,
        layer: &layer,
        archived,
        out: &out,
    })
    .unwrap();
    assert_eq!(std::fs::metadata(out).unwrap().len(), size);
    archived
}

#[test]
fn skopeo_reads_the_image() {
    let Some(mut skopeo) = judge("skopeo") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let archived = made(folder.path(), &tree());
    let image = format!("oci-archive:{}", folder.path().join("image.tar").display());
    let said = run(skopeo.args(["inspect", "--config", &image]));
    for words in [
        "\"created\":\"2023-11-14T22:13:20Z\"",
        "\"architecture\":\"amd64\"",
        "\"Cmd\":[\"/sbin/init\"]",
        "\"StopSignal\":\"SIGRTMIN+3\"",
        &format!("sha256:{}", archived.plain),
    ] {
        let plain: String = said.split_whitespace().collect();
        assert!(plain.contains(words), "{words}: {said}");
    }
}

#[test]
fn umoci_unpacks_the_root() {
    let (Some(mut umoci), Some(mut tar)) = (judge("umoci"), judge("tar")) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    made(folder.path(), &tree());
    let layout = folder.path().join("layout");
    std::fs::create_dir(&layout).unwrap();
    run(tar
        .arg("-xf")
        .arg(folder.path().join("image.tar"))
        .arg("-C")
        .arg(&layout));
    let bundle = folder.path().join("bundle");
    let image = format!("{}:tiny:1.2.3", layout.display());
    run(umoci
        .args(["unpack", "--rootless", "--image", &image])
        .arg(&bundle));
    let init = std::fs::read(bundle.join("rootfs/sbin/init")).unwrap();
    assert_eq!(init, b"#!init");
}

#[test]
fn a_root_without_init_starts_nothing_and_bytes_repeat() {
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let empty = Tree::new(0);
    for folder in [&one, &other] {
        made(folder.path(), &empty);
    }
    let bytes = std::fs::read(one.path().join("image.tar")).unwrap();
    assert!(bytes == std::fs::read(other.path().join("image.tar")).unwrap());
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("Cmd") && text.contains("\"config\":{}"));
}
