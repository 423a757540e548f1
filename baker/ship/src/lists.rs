//! A release as its signed lists alone show it, out of a target: signatures and claims are checked
//! before anything large is fetched.

use std::path::Path;

use baker_model::manifest::{FileRole, ReleaseFile};
use baker_model::{Digest, Interrupt, Listener, Manifest, Silent};

use crate::folder::Watch;
use crate::names::{MANIFEST, RESERVED};
use crate::report::Report;
use crate::target::{Piece, Record, Target, TargetError, read_all};
use crate::trust::Trust;
use crate::verify;

/// The largest list that is fetched, bytes.
pub(crate) const LIST_LIMIT: u64 = 64 << 20;

/// The signed lists of a release and its recipe, and what verification says of them.
#[derive(Debug)]
pub(crate) struct Lists {
    pub(crate) manifest: Option<Manifest>,
    pub(crate) report: Report,
    /// The text of `recipe.toml`.
    pub(crate) recipe: Option<String>,
}

/// True for what is fetched first: the lists, the recipe, and the lock, which provenance follows
/// from.
pub(crate) fn is_list(name: &str, manifest: Option<&Manifest>) -> bool {
    RESERVED.contains(&name)
        || [FileRole::Recipe, FileRole::Lock]
            .into_iter()
            .any(|role| is_of(name, role, manifest))
}

/// Whether the manifest gives this role to that file.
fn is_of(name: &str, role: FileRole, manifest: Option<&Manifest>) -> bool {
    let is_it = |file: &ReleaseFile| file.role == role && file.name == name;
    manifest.is_some_and(|manifest| manifest.files.iter().any(is_it))
}

/// Fetches the lists of a release into memory by way of a temporary folder, and verifies them.
///
/// # Errors
/// The target cannot be read or gives other bytes than its record says, or a person asked to
/// stop. What is wrong with the lists is in the report.
pub(crate) fn fetch(
    target: &dyn Target,
    record: &Record,
    trust: &Trust,
    interrupt: &Interrupt,
) -> Result<Lists, TargetError> {
    let listener: &dyn Listener = &Silent;
    let watch = Watch {
        stage: "verify",
        listener,
        interrupt,
    };
    let scratch = tempfile::tempdir()
        .map_err(|error| TargetError::of_write(&std::env::temp_dir(), LIST_LIMIT, error))?;
    // By its right name, or verification would find it renamed.
    let folder = scratch.path().join(record.id.folder());
    std::fs::create_dir(&folder).map_err(|error| TargetError::of_write(&folder, 0, error))?;
    for piece in record
        .pieces
        .iter()
        .filter(|piece| is_list(&piece.name, None))
    {
        fetch_one(target, record, piece, &folder, watch)?;
    }
    let manifest = read_all(&folder.join(MANIFEST), LIST_LIMIT)?;
    let manifest = manifest.and_then(|bytes| Manifest::parse(&bytes).ok());
    let mut recipe = None;
    let rest = record
        .pieces
        .iter()
        .filter(|piece| !is_list(&piece.name, None));
    for piece in rest.filter(|piece| is_list(&piece.name, manifest.as_ref())) {
        let bytes = fetch_one(target, record, piece, &folder, watch)?;
        if is_of(&piece.name, FileRole::Recipe, manifest.as_ref()) {
            recipe = String::from_utf8(bytes).ok();
        }
    }
    let there = |file: &ReleaseFile| is_list(&file.name, manifest.as_ref());
    let report = verify::check(&folder, trust, there, watch).map_err(|_| {
        let place = record.id.to_string();
        TargetError::Interrupted { place }
    })?;
    Ok(Lists {
        manifest,
        report,
        recipe,
    })
}

fn fetch_one(
    target: &dyn Target,
    record: &Record,
    piece: &Piece,
    folder: &Path,
    watch: Watch<'_>,
) -> Result<Vec<u8>, TargetError> {
    if piece.size > LIST_LIMIT {
        return Err(TargetError::Malformed {
            what: format!("`{}` of {}", piece.name, record.id),
            cause: format!("it has {} bytes", piece.size),
        });
    }
    let mut bytes = Vec::new();
    target.read(record, piece, 0, &mut bytes, watch)?;
    let found = Digest::of(&bytes);
    if found != piece.sha256 {
        return Err(TargetError::Corrupt {
            place: target.place(),
            name: piece.name.clone(),
            expected: piece.sha256,
            found,
        });
    }
    let path = folder.join(&piece.name);
    let parent = path.parent().unwrap_or(folder);
    let written = std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, &bytes));
    written.map_err(|error| TargetError::of_write(&path, piece.size, error))?;
    Ok(bytes)
}
