//! What a lock that is written anew may move, and what it did move.
//!
//! Takes the lock that is there and what may move; gives for every package the version that it is
//! held at, or the leave to move. A version is held as long as its bytes can still be had: the
//! archive lists it, or the store has the file and the index that vouches for it. Such an index
//! stays in the lock beside the new one of its suite, so that every package of a lock is still
//! vouched for by a signed list that the lock names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use baker_model::Lock;
use baker_model::lock::{PackageLock, PackageRole};
use baker_model::version;

use crate::archive::{self, ArchiveError, Suites};
use crate::debian::records::Record;
use crate::lock::LockError;
use crate::resolve::{PackageId, Universe};
use crate::store::{Presence, Store, StoreError};

/// What may move when a lock is written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moves<'a> {
    /// Everything, to the newest version of the suites.
    All,
    /// These packages, and what their newest versions force.
    Named(&'a [String]),
    /// Of these packages (of all, when none is named) those for which a suite whose name ends in
    /// `-security` has a newer version; they move to that.
    Security(&'a [String]),
}

/// One package that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Package name, the new one when a kernel package was renamed.
    pub package: String,
    /// What it is used for.
    pub role: PackageRole,
    /// What it was used for, when that was something else.
    pub was: Option<PackageRole>,
    /// The version before; none when it came in.
    pub from: Option<String>,
    /// The version now; none when it went.
    pub to: Option<String>,
    /// The suites that offer the version now; none when only the store still has it.
    pub suites: Vec<String>,
    /// Why.
    pub cause: Cause,
}

/// Why a package changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Everything moves, and this is the newest version.
    Newest,
    /// It was named.
    Named,
    /// A security suite has a newer version.
    Security,
    /// A need that its old version does not meet, as `nginx 1.4 Depends: libc6 (>= 2.41)`.
    Forced(String),
    /// Its old version is neither in the archive nor in the store.
    Gone,
    /// The recipe asks for this version, or for the package.
    Recipe,
    /// It came in, as somebody needs it.
    NeededBy(String),
    /// Only scripts need it.
    Scripts,
    /// It went, as nobody needs it.
    NotNeeded,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("newest of the archive"),
            Self::Named => f.write_str("named"),
            Self::Security => f.write_str("security update"),
            Self::Forced(need) => write!(f, "forced by {need}"),
            Self::Gone => f.write_str("its old version is neither in the archive nor in the store"),
            Self::Recipe => f.write_str("asked for by the recipe"),
            Self::NeededBy(need) => write!(f, "needed by {need}"),
            Self::Scripts => f.write_str("only scripts need it"),
            Self::NotNeeded => f.write_str("not needed any more"),
        }
    }
}

/// Refuses names that the lock does not have: a misspelt one would update nothing, silently.
pub(crate) fn check_names(
    lock: &Lock,
    kernel: &str,
    boot: &str,
    moves: Moves<'_>,
) -> Result<(), LockError> {
    let (Moves::Named(names) | Moves::Security(names)) = moves else {
        return Ok(());
    };
    let known = |name: &String| {
        [kernel, boot].contains(&name.as_str()) || lock.all_packages().any(|p| p.name == *name)
    };
    match names.iter().find(|name| !known(name)) {
        None => Ok(()),
        Some(package) => Err(LockError::NotLocked {
            package: package.clone(),
        }),
    }
}

/// Adds to what the suites offer now those locked versions that they do not offer any more but
/// that the store has, each with the archive of the lock that vouches for it.
pub(crate) fn add_kept(read: &mut Suites, lock: &Lock, store: &Store) -> Result<(), ArchiveError> {
    let offered: HashSet<(&str, &str)> = read.records.iter().map(version_of).collect();
    let mut kept: HashMap<(&str, &str), &PackageLock> = HashMap::new();
    for package in lock.all_packages() {
        let is_offered = offered.contains(&(package.name.as_str(), package.version.as_str()));
        let presence = store.presence(&package.sha256, package.size)?;
        if !is_offered && presence == Presence::Present {
            kept.insert((&package.name, &package.version), package);
        }
    }
    if kept.is_empty() {
        return Ok(());
    }
    for archive in &lock.archives {
        let number = u16::try_from(read.archives.len()).unwrap_or(u16::MAX);
        let mut records = match archive::read_archive(archive, store, number) {
            Ok(records) => records,
            // Without its list nothing vouches for a package: it is as good as gone.
            Err(ArchiveError::Store(StoreError::Missing { .. })) => continue,
            Err(error) => return Err(error),
        };
        let is_kept = |record: Record<'_>| {
            let locked = kept.get(&version_of(record));
            locked.is_some_and(|locked| locked.sha256 == record.sha256)
        };
        records.retain(is_kept);
        read.records.append(records);
        read.archives.push(archive.clone());
    }
    Ok(())
}

fn version_of(record: Record<'_>) -> (&str, &str) {
    (record.name, record.version)
}

/// Versions that security suites offer.
pub(crate) struct Security<'a>(HashSet<(&'a str, &'a str)>);

impl<'a> Security<'a> {
    /// Collects them. A version that lies in another suite as well counts: point releases take
    /// security updates over.
    pub(crate) fn of(read: &'a Suites) -> Self {
        let is_security = |record: &Record<'_>| {
            let archive = read.archives.get(usize::from(record.suite));
            archive.is_some_and(|archive| archive.suite.ends_with("-security"))
        };
        Self(
            read.records
                .iter()
                .filter(is_security)
                .map(version_of)
                .collect(),
        )
    }

    /// True when a security suite has this version and it is newer than `old`.
    pub(crate) fn renews(&self, record: Record<'_>, old: &str) -> bool {
        self.0.contains(&version_of(record)) && version::compare(record.version, old).is_gt()
    }
}

/// Where locked packages stay or go.
#[derive(Default)]
pub(crate) struct Fates {
    /// Versions that names stand for.
    pub(crate) held: BTreeMap<String, PackageId>,
    /// Why others move.
    pub(crate) causes: BTreeMap<String, Cause>,
}

impl Fates {
    /// Decides for every package of the root.
    pub(crate) fn of(
        lock: &Lock,
        universe: &Universe<'_>,
        security: &Security<'_>,
        moves: Moves<'_>,
    ) -> Self {
        let mut fates = Self::default();
        let root = |package: &&PackageLock| package.role == PackageRole::Root;
        for package in lock.packages.iter().filter(root) {
            let newest = universe.versions(&package.name);
            let (id, cause) = choose(package, &[&package.name], newest, universe, security, moves);
            if let Some(id) = id {
                fates.held.insert(package.name.clone(), id);
            }
            if let Some(cause) = cause {
                fates.causes.insert(package.name.clone(), cause);
            }
        }
        fates
    }
}

/// The version of one package: none when it is free to move to the newest. `names` are the names
/// that it goes by, `offered` its versions, highest first.
pub(crate) fn choose(
    package: &PackageLock,
    names: &[&str],
    offered: &[PackageId],
    universe: &Universe<'_>,
    security: &Security<'_>,
    moves: Moves<'_>,
) -> (Option<PackageId>, Option<Cause>) {
    let is_among = |list: &[String]| list.iter().any(|name| names.contains(&name.as_str()));
    let renewed = match moves {
        Moves::All => return (None, Some(Cause::Newest)),
        Moves::Named(list) if is_among(list) => return (None, Some(Cause::Named)),
        Moves::Security(list) if list.is_empty() || is_among(list) => offered
            .iter()
            .find(|id| security.renews(universe.record(**id), &package.version)),
        Moves::Named(_) | Moves::Security(_) => None,
    };
    if let Some(id) = renewed {
        return (Some(*id), Some(Cause::Security));
    }
    let same = |id: &&PackageId| *universe.record(**id).version == *package.version;
    let locked = universe.versions(&package.name).iter().find(same);
    match locked {
        Some(id) => (Some(*id), None),
        None => (None, Some(Cause::Gone)),
    }
}

/// A locked package before and after.
pub(crate) type Pair<'a> = (Option<&'a PackageLock>, Option<&'a PackageLock>);

/// The packages that differ, in version or role. Of kernel and boot loader there is one each, whatever its name: the
/// name of a kernel package holds its version.
pub(crate) fn pairs<'a>(before: &'a Lock, after: &'a Lock) -> Vec<Pair<'a>> {
    let mut pairs = pairs_of(&before.packages, &after.packages);
    let of = |lock: &'a Lock, name: &str| -> &'a [PackageLock] {
        let stage = lock.stages.iter().find(|stage| stage.name == name);
        stage.map_or(&[], |stage| &stage.packages)
    };
    for stage in &after.stages {
        pairs.extend(pairs_of(of(before, &stage.name), &stage.packages));
    }
    let gone = before.stages.iter();
    let gone = gone.filter(|stage| of(after, &stage.name).is_empty());
    pairs.extend(gone.flat_map(|stage| pairs_of(&stage.packages, &[])));
    pairs
}

fn pairs_of<'a>(before: &'a [PackageLock], after: &'a [PackageLock]) -> Vec<Pair<'a>> {
    // Of every other role there is one package, whatever its name.
    let is_same = |left: &PackageLock, right: &PackageLock| {
        if left.role.is_installed() && right.role.is_installed() {
            left.name == right.name
        } else {
            left.role == right.role
        }
    };
    let mut pairs: Vec<Pair<'_>> = Vec::new();
    for new in after {
        let old = before.iter().find(|old| is_same(old, new));
        let facts = |it: &'a PackageLock| (it.role, &it.version, it.sha256);
        if old.is_none_or(|old| facts(old) != facts(new)) {
            pairs.push((old, Some(new)));
        }
    }
    let gone = before.iter();
    let gone = gone.filter(|old| !after.iter().any(|new| is_same(old, new)));
    pairs.extend(gone.map(|old| (Some(old), None)));
    pairs
}

#[cfg(test)]
mod tests {
    use baker_model::Digest;

    use super::*;

    fn package(name: &str, version: &str, role: PackageRole) -> PackageLock {
        PackageLock {
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            role,
            archive: "debian".into(),
            path: format!("pool/{name}"),
            size: 1,
            sha256: Digest::of(version.as_bytes()),
        }
    }

    #[test]
    fn what_changes_its_role_is_one_change() {
        use PackageRole::{Kernel, Root, Tool};
        let before = [
            package("stays", "1", Root),
            package("enters", "1", Tool),
            package("goes", "1", Root),
            package("linux-1", "1", Kernel),
        ];
        let after = [
            package("stays", "1", Root),
            package("enters", "1", Root),
            package("comes", "1", Tool),
            package("linux-2", "2", Kernel),
        ];
        let name = |package: &PackageLock| (package.name.clone(), package.role);
        let pairs = pairs_of(&before, &after);
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(o, n)| (o.map(name), n.map(name)))
            .collect();
        let of = |name: &str, role| Some((name.to_owned(), role));
        let expected = [
            (of("enters", Tool), of("enters", Root)),
            (None, of("comes", Tool)),
            (of("linux-1", Kernel), of("linux-2", Kernel)),
            (of("goes", Root), None),
        ];
        assert_eq!(pairs, expected);
    }
}
