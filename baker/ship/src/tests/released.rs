//! Small verified releases for the tests of targets, channels and pulls.

use std::path::{Path, PathBuf};

use baker_model::manifest::{FileRole, Waiver};
use baker_model::{Digest, Interrupt, Manifest, Silent};

use super::fixture::{self, key, trust, verified};
use crate::target::{ChannelId, ReleaseId, Target};
use crate::{Draft, Key, Publication, Purpose, Trust, Verified, publish};

/// A recipe that parses, and asks for nothing.
pub(super) const RECIPE: &str = "name = \"minimal\"\nversion = \"1.0.0\"\n[debian]\n\
    suite = \"trixie\"\npackages = [\"systemd\"]\n[kernel]\npackage = \"linux-image-cloud-amd64\"\n";

/// A release in a folder that goes when dropped.
pub(super) struct Release {
    /// Held, never read.
    _home: tempfile::TempDir,
    pub(super) folder: PathBuf,
}

impl Release {
    /// Version `version` of the fixture, whose recipe ends in `switches`.
    pub(super) fn new(version: &str, switches: &str) -> Self {
        Self::changed(version, switches, |_| ())
    }

    /// The same with another manifest.
    pub(super) fn changed(
        version: &str,
        switches: &str,
        change: impl FnOnce(&mut Manifest),
    ) -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(format!("minimal-{version}"));
        std::fs::create_dir(&folder).unwrap();
        let mut manifest = fixture::stage(&folder);
        version.clone_into(&mut manifest.version);
        let recipe = format!("{RECIPE}{switches}");
        std::fs::write(folder.join("recipe.toml"), &recipe).unwrap();
        for file in &mut manifest.files {
            if file.role == FileRole::Recipe {
                file.size = recipe.len() as u64;
                file.sha256 = Digest::of(recipe.as_bytes());
            }
        }
        change(&mut manifest);
        let draft = Draft::new(folder.clone(), manifest);
        drop(draft.sign(&key(), &Silent, &Interrupt::new()).unwrap());
        Self {
            _home: home,
            folder,
        }
    }

    pub(super) fn verified(&self) -> Verified {
        Verified::new(&self.folder, &verified(&self.folder)).unwrap()
    }

    pub(super) fn publish(&self, target: &dyn Target) -> Publication {
        publish(&self.verified(), target, &Silent, &Interrupt::new()).unwrap()
    }
}

/// A waiver.
pub(super) fn waiver(what: &str, reason: &str) -> Waiver {
    Waiver::new(what, reason)
}

pub(super) fn id(version: &str) -> ReleaseId {
    ReleaseId::new("minimal", version).unwrap()
}

pub(super) fn channel(name: &str) -> ChannelId {
    ChannelId::new("minimal", name).unwrap()
}

/// A second key that is trusted beside the fixture's own.
pub(super) fn other_key() -> Key {
    Key::from_seed("rebuilder", Purpose::Release, &[9; 32])
}

/// A key that nobody trusts.
pub(super) fn stranger() -> Key {
    Key::from_seed("stranger", Purpose::Release, &[11; 32])
}

/// Trusts the fixture's key and [`other_key`].
pub(super) fn both() -> Trust {
    Trust::of([key().public(), other_key().public()])
}

/// Trusts the fixture's key.
pub(super) fn one() -> Trust {
    trust()
}

/// All files below a folder with their bytes, sorted by path.
pub(super) fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found.push((path.strip_prefix(folder).unwrap().to_owned(), bytes));
            }
        }
    }
    found.sort();
    found
}
