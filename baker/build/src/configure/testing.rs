//! Small trees for the tests of this stage.

use baker_model::tree::Tree;

use super::image::{Access, Image};
use crate::Spool;

/// A spool in the folder for temporary files.
pub(super) fn spool() -> Spool {
    Spool::new(&std::env::temp_dir()).unwrap()
}

/// A tree of these files, mode 0644; `-> x` as content makes a link to `x`.
pub(super) fn image<'a>(spool: &'a Spool, files: &[(&str, &str)]) -> Image<'a> {
    let mut image = Image::new(Tree::new(0), spool, 0);
    for (path, content) in files {
        match content.strip_prefix("-> ") {
            Some(target) => image.symlink(path, target, "test").unwrap(),
            None => image
                .write(path, *content, Access::root(0o644), "test")
                .unwrap(),
        }
    }
    image
}

/// A package with these scripts and nothing else.
pub(super) fn package(name: &str, scripts: &[(crate::Script, &str)]) -> crate::Package {
    use baker_model::lock::{PackageLock, PackageRole};
    crate::Package {
        lock: PackageLock {
            name: name.to_owned(),
            version: "1.0".to_owned(),
            architecture: "all".to_owned(),
            role: PackageRole::Root,
            archive: "debian".to_owned(),
            path: String::new(),
            size: 0,
            sha256: baker_model::Digest::of(b""),
        },
        control: format!("Package: {name}\n"),
        scripts: scripts
            .iter()
            .map(|(s, text)| (*s, text.as_bytes().to_vec()))
            .collect(),
        members: std::collections::BTreeMap::new(),
        paths: Vec::new(),
    }
}
