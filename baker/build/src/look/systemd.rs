//! Which units of a root are enabled, and which are masked.

use baker_formats::volume::{EntryKind, Volume};
use baker_model::tree::TreePath;
use serde::Serialize;

/// Where an administrator's decisions lie, then the vendor's.
const FOLDERS: [&str; 2] = ["etc/systemd/system", "usr/lib/systemd/system"];

/// A unit that something starts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// What wants or requires it, or which name it goes by.
    pub by: String,
    /// `wants`, `requires`, `upholds`, `alias`, or `masked`.
    pub how: &'static str,
    /// True when this comes with the packages, not by a decision for this image.
    pub vendor: bool,
}

/// The enabled and masked units, sorted.
pub(super) fn units(volume: &Volume) -> Vec<Unit> {
    let mut units = Vec::new();
    for (index, folder) in FOLDERS.iter().enumerate() {
        let folder = TreePath::new(folder).ok();
        let Some(folder) = folder.and_then(|folder| volume.resolve(&folder)) else {
            continue;
        };
        let below = volume.entries().range(folder.clone()..);
        for (path, entry) in below.take_while(|(path, _)| path.is_below(&folder)) {
            if let EntryKind::Symlink { target } = &entry.kind {
                units.extend(unit(&folder, path, target, index > 0));
            }
        }
    }
    units.sort();
    units
}

fn unit(folder: &TreePath, path: &TreePath, target: &[u8], vendor: bool) -> Option<Unit> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let depth = path.components().count() - folder.components().count();
    let name = text(path.file_name());
    if depth == 1 && target == b"/dev/null" {
        return Some(Unit {
            name,
            by: String::new(),
            how: "masked",
            vendor,
        });
    }
    if depth == 1 {
        let real = text(
            target
                .rsplit(|&byte| byte == b'/')
                .next()
                .unwrap_or_default(),
        );
        // A link to a unit of the same name only says where the unit lies.
        return (real != name).then_some(Unit {
            name: real,
            by: name,
            how: "alias",
            vendor,
        });
    }
    let parent = path.parent()?;
    let parent = text(parent.file_name());
    let hows = [
        (".wants", "wants"),
        (".requires", "requires"),
        (".upholds", "upholds"),
    ];
    let (by, how) = hows
        .iter()
        .find_map(|(suffix, how)| Some((parent.strip_suffix(suffix)?, *how)))?;
    Some(Unit {
        name,
        by: by.to_owned(),
        how,
        vendor,
    })
}
