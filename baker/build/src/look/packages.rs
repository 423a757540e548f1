//! The package databases of a root, and which file belongs to which package.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use baker_formats::volume::{EntryKind, Volume};
use baker_model::tree::TreePath;
use serde::Serialize;

/// Where dpkg keeps its database, or an image without `/var` a copy of it.
const HOMES: [&str; 2] = ["var/lib/dpkg", "usr/share/factory/var/lib/dpkg"];

/// Larger databases than this are not read.
const DATABASE_LIMIT: u64 = 64 << 20;

/// Databases that are recognised and not read.
const UNREAD: [(&str, &str); 4] = [
    ("lib/apk/db/installed", "apk"),
    ("usr/lib/sysimage/rpm", "rpm"),
    ("var/lib/rpm", "rpm"),
    ("var/lib/pacman/local", "pacman"),
];

/// A package as its database has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct InstalledPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// Regular files of it that are there; of one with several names only the first counts.
    pub files: u64,
    /// Bytes in them.
    pub size: u64,
}

/// Which path belongs to which package.
#[derive(Debug, Default)]
pub struct Owners(HashMap<TreePath, Arc<str>>);

impl Owners {
    /// The package that the file at `path` belongs to.
    #[must_use]
    pub fn of(&self, path: &TreePath) -> Option<&str> {
        self.0.get(path).map(|name| &**name)
    }
}

/// What is installed.
pub(super) struct Installed {
    /// Sorted by name and architecture.
    pub packages: Vec<InstalledPackage>,
    pub owners: Owners,
    pub unread: Vec<&'static str>,
    /// Files that belong to no package: how many, and their bytes.
    pub unowned: (u64, u64),
}

pub(super) fn installed(volume: &Volume) -> io::Result<Installed> {
    let mut packages = BTreeMap::new();
    let mut owners = Owners::default();
    for home in HOMES {
        let home = TreePath::new(home).map_err(io::Error::other)?;
        let Some(home) = volume.resolve(&home) else {
            continue;
        };
        read_database(volume, &home, &mut packages)?;
        if !packages.is_empty() {
            owners = read_owners(volume, &home)?;
            break;
        }
    }
    let mut unread: Vec<_> = UNREAD
        .iter()
        .filter(|(path, _)| TreePath::new(path).is_ok_and(|path| volume.find(&path).is_some()))
        .map(|(_, name)| *name)
        .collect();
    unread.dedup();
    let unowned = count(volume, &owners, &mut packages);
    Ok(Installed {
        packages: packages.into_values().collect(),
        owners,
        unread,
        unowned,
    })
}

type Packages = BTreeMap<(String, String), InstalledPackage>;

/// `status`, or the one file per package of images without dpkg.
fn read_database(volume: &Volume, home: &TreePath, packages: &mut Packages) -> io::Result<()> {
    let mut texts = Vec::new();
    let named = |name: &str| home.join(name).map_err(io::Error::other);
    texts.extend(volume.read(&named("status")?, DATABASE_LIMIT)?);
    let folder = named("status.d")?;
    for path in children(volume, &folder) {
        if !path.file_name().ends_with(b".md5sums") {
            texts.extend(volume.read(path, DATABASE_LIMIT)?);
        }
    }
    for text in texts {
        let text = String::from_utf8_lossy(&text);
        for package in text.split("\n\n").filter_map(stanza) {
            let key = (package.name.clone(), package.architecture.clone());
            packages.insert(key, package);
        }
    }
    Ok(())
}

/// The entries of a directory.
pub(super) fn children<'a>(
    volume: &'a Volume,
    folder: &'a TreePath,
) -> impl Iterator<Item = &'a TreePath> {
    let depth = folder.components().count() + 1;
    volume
        .entries()
        .range(folder.clone()..)
        .map(|(path, _)| path)
        .take_while(|path| path.is_below(folder))
        .filter(move |path| path.components().count() == depth)
}

/// A package that is installed; removed ones keep a stanza, too.
fn stanza(text: &str) -> Option<InstalledPackage> {
    let field = |name: &str| {
        let lines = text.lines();
        let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values.next().map(str::trim)
    };
    let is_installed = field("Status").is_none_or(|status| status.ends_with(" installed"));
    let name = field("Package").filter(|_| is_installed)?;
    Some(InstalledPackage {
        name: name.to_owned(),
        version: field("Version").unwrap_or_default().to_owned(),
        architecture: field("Architecture").unwrap_or_default().to_owned(),
        files: 0,
        size: 0,
    })
}

/// The lists of files. Paths go through links of directories: packages still ship `/lib/x`.
fn read_owners(volume: &Volume, home: &TreePath) -> io::Result<Owners> {
    let mut owners = HashMap::new();
    let mut folders: HashMap<TreePath, Option<TreePath>> = HashMap::new();
    let info = home.join("info").map_err(io::Error::other)?;
    for path in children(volume, &info) {
        let Some(name) = path.file_name().strip_suffix(b".list") else {
            continue;
        };
        let name = name.split(|&byte| byte == b':').next().unwrap_or_default();
        let name: Arc<str> = String::from_utf8_lossy(name).into();
        let list = volume.read(path, DATABASE_LIMIT)?.unwrap_or_default();
        for line in list.split(|&byte| byte == b'\n') {
            let Some(found) = TreePath::new(line).ok().filter(|path| !path.is_root()) else {
                continue;
            };
            let Some(parent) = found.parent() else {
                continue;
            };
            let folder = folders
                .entry(parent)
                .or_insert_with_key(|parent| volume.resolve(parent));
            let real = folder
                .as_ref()
                .and_then(|folder| folder.join(found.file_name()).ok());
            if let Some(real) = real.filter(|real| is_file(volume, real)) {
                owners.entry(real).or_insert_with(|| Arc::clone(&name));
            }
        }
    }
    Ok(Owners(owners))
}

fn is_file(volume: &Volume, path: &TreePath) -> bool {
    let entry = volume.entries().get(path);
    entry.is_some_and(|entry| entry.kind != EntryKind::Directory)
}

/// Adds up files and bytes by package; gives those that belong to none.
fn count(volume: &Volume, owners: &Owners, packages: &mut Packages) -> (u64, u64) {
    let mut sums: HashMap<&str, (u64, u64)> = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    let mut unowned = (0, 0);
    for (path, entry) in volume.entries() {
        let EntryKind::File { size } = entry.kind else {
            continue;
        };
        if !seen.insert(entry.number) {
            continue;
        }
        let sum = match owners.of(path) {
            Some(name) => sums.entry(name).or_default(),
            None => &mut unowned,
        };
        sum.0 += 1;
        sum.1 += size;
    }
    for package in packages.values_mut() {
        if let Some((files, size)) = sums.remove(package.name.as_str()) {
            (package.files, package.size) = (files, size);
        }
    }
    unowned
}
