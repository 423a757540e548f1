//! The part of a folder of releases from which systemd-sysupdate updates machines with two slots.
//!
//! ```text
//! releases/sysupdate/minimal/
//!   minimal_1.0.0_<partition UUID>.root.raw      the root image, cut out of the disk
//!   minimal_1.0.0_<partition UUID>.verity.raw    its hash tree
//!   minimal_1.0.0.efi                            the UKI
//!   SHA256SUMS                                   what is on offer
//! ```
//!
//! Everything follows from the releases: the digests of root and tree stand in the signed disk,
//! and the UKI names the root hash. The list is written last, by one rename, and names only what
//! lies there whole; whoever is killed before leaves the old list, and publishing the release
//! again makes the new one. Withdrawing a release takes it off the list.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use baker_build::disk;
use baker_model::layout::{Partition, Role};
use baker_model::manifest::FileRole;
use baker_model::{Digester, Manifest, Recipe};

use crate::exit::{Exit, Failure};
use crate::workdir::write_atomically;

/// The folder beside the releases.
const FOLDER: &str = "sysupdate";

/// The list that systemd-sysupdate reads.
const SUMS: &str = "SHA256SUMS";

/// Bytes copied at a time.
const BUFFER: usize = 1 << 20;

/// Offers the release in `releases` to updaters, when its disk has two slots.
pub fn offer(releases: &Path, release: &Path) -> Result<(), Failure> {
    let read = |name: &str| fs::read(release.join(name)).map_err(|e| failed(release, e));
    let manifest = Manifest::parse(&read(baker_ship::MANIFEST)?);
    let manifest = manifest.map_err(|error| Failure::new(Exit::Publish, error))?;
    let recipe = String::from_utf8_lossy(&read(super::RECIPE)?).into_owned();
    let recipe = Recipe::parse(&recipe).map_err(|error| Failure::new(Exit::Publish, error))?;
    if recipe.disk.slots != 2 {
        return Ok(());
    }
    let disk = file(release, &manifest, FileRole::Disk)?;
    let uki = file(release, &manifest, FileRole::Uki)?;
    let images = disk::images(&disk).map_err(|error| Failure::new(Exit::Publish, error))?;
    let folder = releases.join(FOLDER).join(&manifest.name);
    fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
    let stem = format!("{}_{}", manifest.name, manifest.version);
    let mut offered = BTreeMap::new();
    for image in &images {
        let name = format!("{stem}_{}.{}.raw", uuid(image), end_of(image.role));
        let digest = bring(&disk, image.offset, image.size, &folder.join(&name));
        offered.insert(name, digest.map_err(|error| failed(&folder, error))?);
    }
    let size = fs::metadata(&uki)
        .map_err(|error| failed(&uki, error))?
        .len();
    let name = format!("{stem}.efi");
    let digest = bring(&uki, 0, size, &folder.join(&name)).map_err(|e| failed(&folder, e))?;
    offered.insert(name, digest);
    list(&folder, |lines| lines.extend(offered))
}

/// Takes a release off the list; its files go too.
pub fn withdraw(releases: &Path, name: &str, version: &str) -> Result<(), Failure> {
    let folder = releases.join(FOLDER).join(name);
    if !folder.is_dir() {
        return Ok(());
    }
    let (uki, images) = (
        format!("{name}_{version}.efi"),
        format!("{name}_{version}_"),
    );
    let is_its = |file: &String| *file == uki || file.starts_with(&images);
    let mut gone = Vec::new();
    list(&folder, |lines| {
        gone = lines.keys().filter(|file| is_its(file)).cloned().collect();
        lines.retain(|file, _| !is_its(file));
    })?;
    for file in gone {
        fs::remove_file(folder.join(&file)).map_err(|error| failed(&folder, error))?;
    }
    Ok(())
}

/// Changes the list in one step. What it names and is not there any more is left out.
fn list(folder: &Path, change: impl FnOnce(&mut BTreeMap<String, String>)) -> Result<(), Failure> {
    let attempt = || {
        let lock = File::open(folder)?;
        lock.lock()?;
        let path = folder.join(SUMS);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let lines = text.lines().filter_map(|line| line.split_once("  "));
        let mut lines: BTreeMap<String, String> = lines
            .filter(|(_, file)| folder.join(file).is_file())
            .map(|(digest, file)| (file.to_owned(), digest.to_owned()))
            .collect();
        change(&mut lines);
        let text: String = lines
            .iter()
            .map(|(file, digest)| format!("{digest}  {file}\n"))
            .collect();
        write_atomically(&path, text.as_bytes())
    };
    attempt().map_err(|error| failed(folder, error))
}

/// Copies a part of a file to a file of its own, by a temporary name, and gives its digest.
fn bring(from: &Path, offset: u64, size: u64, to: &Path) -> io::Result<String> {
    let mut source = File::open(from)?;
    source.seek(SeekFrom::Start(offset))?;
    let mut source = source.take(size);
    let mut target = tempfile::NamedTempFile::new_in(to.parent().unwrap_or(Path::new(".")))?;
    let (mut digester, mut buffer) = (Digester::new(), vec![0; BUFFER]);
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digester.update(&buffer[..count]);
        target.write_all(&buffer[..count])?;
    }
    if source.limit() > 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let permissions = fs::Permissions::from_mode(0o644);
    target.as_file().set_permissions(permissions)?;
    target.as_file().sync_all()?;
    target.persist(to)?;
    Ok(digester.finish().to_string())
}

fn end_of(role: Role) -> &'static str {
    match role {
        Role::RootVerity => "verity",
        _ => "root",
    }
}

/// The partition's UUID in its text form.
fn uuid(partition: &Partition) -> String {
    let hex: String = partition
        .uuid
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

fn file(
    release: &Path,
    manifest: &Manifest,
    role: FileRole,
) -> Result<std::path::PathBuf, Failure> {
    let found = manifest.file(role).map(|file| release.join(&file.name));
    found.ok_or_else(|| {
        let problem = format!("{} has no disk or no UKI", release.display());
        Failure::message(Exit::Publish, problem)
    })
}

fn failed(path: &Path, error: io::Error) -> Failure {
    Failure::new(Exit::Publish, error)
        .context(format!("cannot offer updates in {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_what_is_there_and_a_withdrawn_version_leaves_it() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("sysupdate/a");
        fs::create_dir_all(&folder).unwrap();
        let source = home.path().join("disk");
        fs::write(&source, b"0123456789").unwrap();
        for version in ["1.0.0", "1.0.1"] {
            let name = format!("a_{version}_u.root.raw");
            let digest = bring(&source, 2, 5, &folder.join(&name)).unwrap();
            assert_eq!(fs::read(folder.join(&name)).unwrap(), b"23456");
            list(&folder, |lines| drop(lines.insert(name, digest))).unwrap();
        }
        assert!(bring(&source, 8, 5, &folder.join("short")).is_err());
        assert!(!folder.join("short").exists());
        list(&folder, |lines| {
            drop(lines.insert("a_1.0.0.efi".to_owned(), "x".to_owned()))
        })
        .unwrap();
        withdraw(home.path(), "a", "1.0.1").unwrap();
        // The UKI that never arrived has gone with the next writing.
        let sums = fs::read_to_string(folder.join(SUMS)).unwrap();
        assert_eq!(sums.lines().count(), 1, "{sums}");
        assert!(sums.ends_with("  a_1.0.0_u.root.raw\n"), "{sums}");
        assert!(!folder.join("a_1.0.1_u.root.raw").exists());
    }
}
