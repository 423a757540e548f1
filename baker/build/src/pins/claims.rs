//! The files of the root: each compared with the bill of materials and with its package.

use std::collections::BTreeMap;

use baker_model::tree::{Kind, Node, TreePath};

use super::{Fault, Holder, Proof, Request, holder_of};
use crate::inventory::{Owner, Place, What, name_of};
use crate::sbom::Record;

/// Who answers for a file, and how that was proved; none when nobody does.
pub(super) type Claim = Option<(Holder, Proof)>;

/// Claims by path, written as [`erofs::pieces`](baker_formats::erofs::pieces) writes it.
pub(super) fn root(request: &Request<'_>, faults: &mut Vec<Fault>) -> BTreeMap<String, Claim> {
    let of_root = request
        .records
        .iter()
        .filter(|record| record.place == Place::Root);
    let mut records: BTreeMap<&str, &Record> = of_root
        .map(|record| (record.path.as_str(), record))
        .collect();
    let mut claims = BTreeMap::new();
    for (path, node) in request.root.walk() {
        let name = name_of(path);
        let claim = match records.remove(name.as_str()) {
            None => Err(Fault::Foreign { path: name }),
            Some(record) => claim(request, record, node),
        };
        let claim = claim.map_err(|fault| faults.push(fault)).ok();
        claims.insert(escaped(path), claim);
    }
    let missing = records.into_keys().map(|path| Fault::Missing {
        path: path.to_owned(),
    });
    faults.extend(missing);
    claims
}

fn claim(request: &Request<'_>, record: &Record, node: &Node) -> Result<(Holder, Proof), Fault> {
    let path = || record.path.clone();
    let altered = |what| Err(Fault::Altered { path: path(), what });
    let (kind, is_same) = match &node.kind {
        Kind::File { content, .. } => ("file", record.sha256 == Some(content.digest())),
        Kind::Symlink { target } => {
            let found = What::link(target);
            ("link", record.target.as_ref() == Some(&found))
        }
        Kind::Directory => ("directory", true),
        kind => {
            let found = What::special(kind);
            ("special", record.target == found)
        }
    };
    if record.kind != kind {
        return altered("kind");
    }
    if !is_same {
        return altered("content");
    }
    let holder = holder_of(&record.owner).ok_or_else(|| Fault::Nobody { path: path() })?;
    let proof = match (&record.owner, &node.kind) {
        // Names and numbers of what lies in it, each of which has a claim of its own.
        (_, Kind::Directory) => {
            return Ok((Holder::Structure("EROFS".to_owned()), Proof::Rebuilt));
        }
        (Owner::Package(package), kind) => match holds(request, package, kind) {
            Some(true) => Proof::Package,
            Some(false) => {
                let package = package.to_string();
                return Err(Fault::NotOfPackage {
                    path: path(),
                    package,
                });
            }
            None => Proof::Sbom,
        },
        (Owner::Recipe, Kind::File { content, .. }) => {
            match request.pinned.contains(&content.digest()) {
                true => Proof::Lock,
                false => Proof::Sbom,
            }
        }
        _ => Proof::Sbom,
    };
    Ok((holder, proof))
}

/// Whether the package holds what the node does; none when the store lacks the packages, or the
/// node has no content.
fn holds(request: &Request<'_>, package: &str, kind: &Kind) -> Option<bool> {
    let shipped = request.shipped?;
    match kind {
        Kind::File { content, .. } => Some(shipped.holds(package, &content.digest())),
        Kind::Symlink { target } => Some(shipped.links(package, target)),
        _ => None,
    }
}

fn escaped(path: &TreePath) -> String {
    let names = path
        .components()
        .map(|name| format!("/{}", name.escape_ascii()));
    let text: String = names.collect();
    if text.is_empty() {
        "/".to_owned()
    } else {
        text
    }
}
