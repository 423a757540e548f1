//! The part of a folder of releases from which systemd-sysupdate updates machines with two slots.
//!
//! ```text
//! releases/sysupdate/minimal/
//!   minimal_1.0.0_<partition UUID>.root.raw      the root image, cut out of the disk
//!   minimal_1.0.0_<partition UUID>.verity.raw    its hash tree
//!   minimal_1.0.0.efi                            the UKI
//!   SHA256SUMS                                   what is on offer
//!   SHA256SUMS.gpg                               its signature, when a key is named
//! releases/sysupdate/.minimal.next/              the same, while it is made
//! ```
//!
//! Everything follows from the releases: the digests of root and tree stand in the signed disk,
//! and the UKI names the root hash. A change is made in a second folder, by second names of the
//! files that stay, and both folders change places in one step: a list is never without its files
//! and its signature, and whoever is killed leaves the old folder. Withdrawing a release takes it
//! out.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use baker_build::disk;
use baker_model::layout::{Partition, Role};
use baker_model::manifest::FileRole;
use baker_model::{Digester, Manifest, Recipe};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::openpgp::{self, Fingerprint};
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// The folder beside the releases.
const FOLDER: &str = "sysupdate";

/// The list that systemd-sysupdate reads.
const SUMS: &str = "SHA256SUMS";

/// Its signature.
const SIGNATURE: &str = "SHA256SUMS.gpg";

/// Bytes copied at a time.
const BUFFER: usize = 1 << 20;

/// Offers the release in `releases` to updaters, when its disk has two slots. Without a key, a
/// list that machines want signed stays as it is, and a person is told.
pub fn offer(
    releases: &Path,
    release: &Path,
    key: Option<&Fingerprint>,
    context: &Context,
) -> Result<(), Failure> {
    let read = |name: &str| fs::read(release.join(name)).map_err(|e| failed(release, e));
    let manifest = Manifest::parse(&read(baker_ship::MANIFEST)?);
    let manifest = manifest.map_err(|error| Failure::new(Exit::Publish, error))?;
    let recipe = String::from_utf8_lossy(&read(super::RECIPE)?).into_owned();
    let recipe = Recipe::parse(&recipe).map_err(|error| Failure::new(Exit::Publish, error))?;
    if recipe.disk.slots != 2 {
        return Ok(());
    }
    let wants_signature = recipe.update.is_some_and(|update| update.verify);
    if key.is_none() && (wants_signature || is_signed(releases, &manifest.name)) {
        context.printer().warn(
            "not offered to machines, which take signed lists only; publish it again with \
             --gpg-key FINGERPRINT",
        );
        return Ok(());
    }
    let disk = file(release, &manifest, FileRole::Disk)?;
    let uki = file(release, &manifest, FileRole::Uki)?;
    let images = disk::images(&disk).map_err(|error| Failure::new(Exit::Publish, error))?;
    let stem = format!("{}_{}", manifest.name, manifest.version);
    let add = |next: &Path, lines: &mut BTreeMap<String, String>| {
        for image in &images {
            let name = format!("{stem}_{}.{}.raw", uuid(image), end_of(image.role));
            let digest = bring(&disk, image.offset, image.size, &next.join(&name))?;
            lines.insert(name, digest);
        }
        let name = format!("{stem}.efi");
        let size = fs::metadata(&uki)?.len();
        lines.insert(name.clone(), bring(&uki, 0, size, &next.join(&name))?);
        Ok(())
    };
    change(releases, &manifest.name, key, add)
}

/// Refuses to begin with a withdrawal whose end would be a list without its signature.
pub fn refuse_unsigned(
    releases: &Path,
    name: &str,
    key: Option<&Fingerprint>,
) -> Result<(), Failure> {
    if key.is_some() || !is_signed(releases, name) {
        return Ok(());
    }
    let problem = format!("the list of updates of {name} is signed, and has to be signed again");
    Err(Failure::message(Exit::Publish, problem).help("name the key with --gpg-key FINGERPRINT"))
}

/// Takes a release off the list, its files with it.
pub fn withdraw(
    releases: &Path,
    (name, version): (&str, &str),
    key: Option<&Fingerprint>,
) -> Result<(), Failure> {
    if !releases.join(FOLDER).join(name).is_dir() {
        return Ok(());
    }
    let (uki, images) = (
        format!("{name}_{version}.efi"),
        format!("{name}_{version}_"),
    );
    change(releases, name, key, |_, lines| {
        lines.retain(|file, _| *file != uki && !file.starts_with(&images));
        Ok(())
    })
}

fn is_signed(releases: &Path, name: &str) -> bool {
    releases.join(FOLDER).join(name).join(SIGNATURE).exists()
}

/// Makes the folder anew and puts it in the place of the old one. `edit` gets the folder in the
/// making and the list, by file; what the list names by then comes along from the old folder.
fn change(
    releases: &Path,
    name: &str,
    key: Option<&Fingerprint>,
    edit: impl FnOnce(&Path, &mut BTreeMap<String, String>) -> io::Result<()>,
) -> Result<(), Failure> {
    let all = releases.join(FOLDER);
    let (folder, next) = (all.join(name), all.join(format!(".{name}.next")));
    let broken = |error| failed(&folder, error);
    let lock = || {
        fs::create_dir_all(&all)?;
        let lock = File::open(&all)?;
        lock.lock()?;
        io::Result::Ok(lock)
    };
    let _lock = lock().map_err(broken)?;
    let lines = || {
        remove(&next)?;
        fs::create_dir(&next)?;
        fs::set_permissions(&next, fs::Permissions::from_mode(0o755))?;
        let mut lines = list(&folder)?;
        edit(&next, &mut lines)?;
        for file in lines.keys().filter(|file| !next.join(file).exists()) {
            fs::hard_link(folder.join(file), next.join(file))?;
        }
        let text: String = lines
            .iter()
            .map(|(file, digest)| format!("{digest}  {file}\n"))
            .collect();
        write(&next.join(SUMS), text.as_bytes())
    };
    lines().map_err(broken)?;
    if let Some(key) = key {
        openpgp::sign(key, &next.join(SUMS), &next.join(SIGNATURE))?;
    }
    let swap = || {
        for file in [next.join(SIGNATURE), next.clone()] {
            match File::open(file) {
                Ok(file) => file.sync_all()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        exchange(&next, &folder)?;
        File::open(&all)?.sync_all()?;
        remove(&next)
    };
    swap().map_err(broken)
}

/// The list of a folder by file, without what is not there any more; empty when there is none.
fn list(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let text = match fs::read_to_string(folder.join(SUMS)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let lines = text.lines().filter_map(|line| line.split_once("  "));
    Ok(lines
        .filter(|(_, file)| folder.join(file).is_file())
        .map(|(digest, file)| (file.to_owned(), digest.to_owned()))
        .collect())
}

/// Lets two folders change places, or gives the first the name of the second when that is free.
fn exchange(next: &Path, folder: &Path) -> io::Result<()> {
    if !folder.exists() {
        return fs::rename(next, folder);
    }
    match renameat2(
        AT_FDCWD,
        next,
        AT_FDCWD,
        folder,
        RenameFlags::RENAME_EXCHANGE,
    ) {
        // A file system that cannot (NFS): for a moment updaters find nothing and come again.
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
            let old = next.with_extension("old");
            remove(&old)?;
            fs::rename(folder, &old)?;
            fs::rename(next, folder)?;
            remove(&old)
        }
        result => Ok(result?),
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Copies a part of a file to a file of its own and gives its digest.
fn bring(from: &Path, offset: u64, size: u64, to: &Path) -> io::Result<String> {
    let mut source = File::open(from)?;
    source.seek(SeekFrom::Start(offset))?;
    let mut source = source.take(size);
    let mut target = File::create_new(to)?;
    target.set_permissions(fs::Permissions::from_mode(0o644))?;
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
    target.sync_all()?;
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

fn file(release: &Path, manifest: &Manifest, role: FileRole) -> Result<PathBuf, Failure> {
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
        let source = home.path().join("disk");
        fs::write(&source, b"0123456789").unwrap();
        for version in ["1.0.0", "1.0.1", "1.0.10"] {
            change(home.path(), "a", None, |next, lines| {
                let name = format!("a_{version}_u.root.raw");
                let digest = bring(&source, 2, 5, &next.join(&name))?;
                lines.insert(name, digest);
                Ok(())
            })
            .unwrap();
        }
        let read = |name: &str| fs::read(folder.join(name)).unwrap();
        assert_eq!(read("a_1.0.0_u.root.raw"), b"23456");
        // What goes wrong half way changes nothing, and the next change is not disturbed by it.
        let before = read(SUMS);
        let short = change(home.path(), "a", None, |next, lines| {
            lines.clear();
            bring(&source, 8, 5, &next.join("short")).map(drop)
        });
        assert!(short.is_err());
        assert_eq!(read(SUMS), before);
        withdraw(home.path(), ("a", "1.0.1"), None).unwrap();
        let sums = String::from_utf8(read(SUMS)).unwrap();
        let names: Vec<&str> = sums.lines().map(|line| &line[66..]).collect();
        assert_eq!(names, ["a_1.0.0_u.root.raw", "a_1.0.10_u.root.raw"]);
        assert!(!folder.join("a_1.0.1_u.root.raw").exists());
        assert!(!home.path().join("sysupdate/.a.next").exists());
        // A signed list is not changed by whoever cannot sign it.
        fs::write(folder.join(SIGNATURE), "").unwrap();
        let refused = refuse_unsigned(home.path(), "a", None).unwrap_err();
        assert!(refused.help.unwrap().contains("--gpg-key"));
        refuse_unsigned(home.path(), "b", None).unwrap();
    }
}
