//! Removes what nobody needs any more: oldest use first, whole entries only.
//!
//! Never removed: what a lock of the roots names, what was used since the oldest running baker
//! opened the store, downloads under way. An object is as young as the results that name it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use baker_model::{Digest, Interrupt};

use super::roots::{Roots, digests};
use super::session;
use super::survey::{Entry, Kind, failed, found};
use super::{Store, StoreError};

/// Entries removed before those who mark uses get their turn.
const BATCH: usize = 64;

/// Larger results are not text that could name objects.
const TEXT_LIMIT: u64 = 1 << 20;

/// What to keep.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// Locks whose inputs stay.
    pub roots: &'a Roots,
    /// Now.
    pub now: SystemTime,
    /// What was used within this time stays.
    pub keep_newer_than: Option<Duration>,
    /// Remove only until the store takes no more than this many bytes.
    pub max_size: Option<u64>,
    /// Whether anything is removed.
    pub act: Act,
}

/// Whether anything is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// What has to go goes.
    Remove,
    /// Nothing; the answer says what would go.
    Pretend,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// What went (or would), oldest use first.
    pub removed: Vec<Entry>,
    /// Number of entries that stayed.
    pub kept: usize,
    /// Bytes that stayed.
    pub kept_bytes: u64,
    /// Of those that stayed: entries that a lock of the roots names.
    pub rooted: usize,
    /// Of those that stayed: entries that a running baker uses.
    pub in_use: usize,
}

impl Store {
    /// Removes what the policy does not keep.
    ///
    /// # Errors
    /// The store cannot be read, something cannot be removed, or a person asked to stop; what was
    /// removed until then stays so.
    pub fn collect(
        &self,
        policy: &Policy<'_>,
        interrupt: &Interrupt,
    ) -> Result<Collected, StoreError> {
        let mut entries = self.survey()?;
        let mentioned = mentioned(&entries);
        let own = self.session.as_deref().map(session::Session::path);
        let oldest = session::oldest(&self.root, own)
            .map_err(|source| failed("list", &self.root.join("sessions"), source))?;
        let mut collected = Collected::default();
        let mut excess: u64 = entries.iter().map(|entry| entry.size).sum();
        entries.sort_by_cached_key(|entry| (age_of(entry, &mentioned), entry.path.clone()));
        let mut going = Vec::new();
        for entry in entries {
            let used = age_of(&entry, &mentioned);
            let is_rooted = digest(&entry).is_some_and(|digest| policy.roots.has(&digest));
            let is_used = oldest.is_some_and(|oldest| used >= oldest);
            let age = policy.now.duration_since(used).unwrap_or_default();
            let is_new = policy.keep_newer_than.is_some_and(|limit| age <= limit);
            let fits = policy.max_size.is_some_and(|limit| excess <= limit);
            collected.rooted += usize::from(is_rooted);
            collected.in_use += usize::from(is_used && !is_rooted);
            if is_rooted || is_used || is_new || fits {
                collected.keep(&entry);
            } else {
                excess = excess.saturating_sub(entry.size);
                going.push(entry);
            }
        }
        match policy.act {
            Act::Pretend => collected.removed = going,
            Act::Remove => self.sweep(going, &mut collected, interrupt)?,
        }
        Ok(collected)
    }

    fn sweep(
        &self,
        mut going: Vec<Entry>,
        collected: &mut Collected,
        interrupt: &Interrupt,
    ) -> Result<(), StoreError> {
        while !going.is_empty() {
            if interrupt.is_raised() {
                return Err(StoreError::Interrupted);
            }
            let rest = going.split_off(going.len().min(BATCH));
            let mut folders = Vec::new();
            let alone = session::alone(&self.root)
                .map_err(|source| failed("lock", &self.root.join("sweep"), source))?;
            for entry in std::mem::replace(&mut going, rest) {
                let gone = self.remove_entry(&entry, &mut folders);
                match gone.map_err(|source| failed("remove", &entry.path, source))? {
                    Removal::Done => collected.removed.push(entry),
                    Removal::Used => {
                        collected.in_use += 1;
                        collected.keep(&entry);
                    }
                    Removal::Gone => {}
                }
            }
            drop(alone);
            for folder in folders {
                let removed = found(fs::remove_dir_all(&folder));
                removed.map_err(|source| failed("remove", &folder, source))?;
            }
        }
        Ok(())
    }

    /// Removes an entry that nobody used since it was looked at. A folder only loses its name here:
    /// what is in it goes when nobody has to wait for that.
    fn remove_entry(&self, entry: &Entry, folders: &mut Vec<PathBuf>) -> io::Result<Removal> {
        let Some(metadata) = found(fs::symlink_metadata(&entry.path))? else {
            return Ok(Removal::Gone);
        };
        if metadata.modified()? != entry.used {
            return Ok(Removal::Used);
        }
        if metadata.is_dir() {
            let place = self.root.join("tmp").join(format!("gone-{}", entry.name));
            return Ok(match fs::rename(&entry.path, &place) {
                Ok(()) => {
                    folders.push(place);
                    Removal::Done
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Removal::Gone,
                Err(error) => return Err(error),
            });
        }
        // The lock of a download under way lasts until its file has no name any more.
        let _download = match entry.kind {
            Kind::Partial => match found(File::open(&entry.path))? {
                None => return Ok(Removal::Gone),
                Some(file) if file.try_lock().is_err() => return Ok(Removal::Used),
                file => file,
            },
            Kind::Object | Kind::Result => None,
        };
        match found(fs::remove_file(&entry.path))? {
            Some(()) => Ok(Removal::Done),
            None => Ok(Removal::Gone),
        }
    }
}

impl Collected {
    fn keep(&mut self, entry: &Entry) {
        self.kept += 1;
        self.kept_bytes += entry.size;
    }
}

enum Removal {
    Done,
    /// Somebody used it meanwhile.
    Used,
    /// Somebody else removed it.
    Gone,
}

/// When the results that name an object were used, the last time.
fn mentioned(entries: &[Entry]) -> HashMap<Digest, SystemTime> {
    let mut mentioned: HashMap<Digest, SystemTime> = HashMap::new();
    let results = entries.iter().filter(|entry| entry.kind == Kind::Result);
    for entry in results.filter(|entry| entry.size <= TEXT_LIMIT) {
        // A folder, or a result that is gone by now, names nothing.
        let Ok(text) = fs::read(&entry.path) else {
            continue;
        };
        for digest in digests(&text) {
            let used = mentioned.entry(digest).or_insert(entry.used);
            *used = entry.used.max(*used);
        }
    }
    mentioned
}

fn age_of(entry: &Entry, mentioned: &HashMap<Digest, SystemTime>) -> SystemTime {
    let by_result = digest(entry).and_then(|digest| mentioned.get(&digest).copied());
    by_result.map_or(entry.used, |used| used.max(entry.used))
}

/// The digest that an object or a download is named by.
fn digest(entry: &Entry) -> Option<Digest> {
    match entry.kind {
        Kind::Object | Kind::Partial => entry.name.parse().ok(),
        Kind::Result => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use baker_model::Objects;

    use super::*;
    use crate::store::{Presence, RootsError};

    const DAY: Duration = Duration::from_secs(86_400);

    /// A store whose own session counts for nothing, as that of a collector.
    struct Fixture {
        folder: tempfile::TempDir,
        store: Store,
        now: SystemTime,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&folder.path().join("store")).unwrap();
            let now = SystemTime::now();
            Self { folder, store, now }
        }

        /// Says that a file or folder was used so many days ago.
        fn age(&self, path: &Path, days: u32) {
            let file = File::open(path).unwrap();
            file.set_modified(self.now - DAY * days).unwrap();
        }

        fn object(&self, text: &str, days: u32) -> Digest {
            let digest = self.store.put_bytes(text.as_bytes()).unwrap();
            self.age(&self.store.path(&digest), days);
            digest
        }

        fn result(&self, name: &str, text: &str, days: u32) -> PathBuf {
            let path = self.store.stages().join(name);
            fs::write(&path, text).unwrap();
            self.age(&path, days);
            path
        }

        fn collect(&self, change: impl Fn(&mut Policy<'_>)) -> Collected {
            let roots = Roots::default();
            let mut policy = Policy {
                roots: &roots,
                now: self.now,
                keep_newer_than: None,
                max_size: None,
                act: Act::Remove,
            };
            change(&mut policy);
            self.store.collect(&policy, &Interrupt::new()).unwrap()
        }

        fn names(&self) -> Vec<String> {
            let entries = self.store.survey().unwrap();
            entries.into_iter().map(|entry| entry.name).collect()
        }
    }

    #[test]
    fn what_is_older_goes_and_a_pretence_removes_nothing() {
        let fixture = Fixture::new();
        let (old, new) = (fixture.object("old", 9), fixture.object("new", 1));
        let result = fixture.result("scripts-1.json", "{}", 9);
        let pretended = fixture.collect(|policy| {
            policy.keep_newer_than = Some(DAY * 2);
            policy.act = Act::Pretend;
        });
        assert_eq!(fixture.names().len(), 3);
        let removed = fixture.collect(|policy| policy.keep_newer_than = Some(DAY * 2));
        assert_eq!(removed, pretended, "the same, and now in earnest");
        assert_eq!((removed.removed.len(), removed.kept), (2, 1));
        assert_eq!(fixture.names(), [new.to_string()]);
        assert!(!fixture.store.path(&old).exists() && !result.exists());
    }

    #[test]
    fn to_fit_a_size_the_longest_unused_goes_first() {
        let fixture = Fixture::new();
        let text = |letter: &str| letter.repeat(20_000);
        let digests = [3, 9, 5].map(|days| fixture.object(&text(&days.to_string()), days));
        let sizes = fixture.store.survey().unwrap();
        let all: u64 = sizes.iter().map(|entry| entry.size).sum();
        let nothing = fixture.collect(|policy| policy.max_size = Some(all));
        assert!(nothing.removed.is_empty());
        let collected = fixture.collect(|policy| policy.max_size = Some(all - 1));
        assert_eq!(collected.removed.len(), 1);
        assert_eq!(collected.removed[0].name, digests[1].to_string());
        assert_eq!(collected.kept_bytes, all - collected.removed[0].size);
        fixture.collect(|policy| policy.max_size = Some(1));
        assert!(fixture.names().is_empty());
    }

    #[test]
    fn a_use_outlives_another_writer_of_the_same_object() {
        let fixture = Fixture::new();
        let root = fixture.store.root();
        let slow = Store::open(root).unwrap();
        let mut scratch = slow.incoming().unwrap();
        scratch.append(b"wanted").unwrap();
        scratch.seal().unwrap();
        // Begun after the other's file was whole, and before it got its name.
        let user = Store::open(root).unwrap();
        let digest = user.put_bytes(b"wanted").unwrap();
        slow.take_object(scratch, &digest).unwrap();
        drop(slow);
        let collected = fixture.collect(|policy| policy.max_size = Some(0));
        assert_eq!(collected.in_use, 1);
        assert_eq!(user.presence(&digest, 6).unwrap(), Presence::Present);
        drop(user);
        fixture.collect(|policy| policy.max_size = Some(0));
        assert!(fixture.names().is_empty());
    }

    #[test]
    fn what_locks_name_stays() {
        let fixture = Fixture::new();
        let (named, other) = (fixture.object("named", 99), fixture.object("other", 99));
        let release = fixture.folder.path().join("releases/web/1.0.0");
        fs::create_dir_all(&release).unwrap();
        let text = format!("[[package]]\nsha256 = \"{named}\"\n");
        fs::write(release.join("recipe.lock"), text).unwrap();
        fs::write(release.join("notes"), other.to_string()).unwrap();
        let roots = Roots::read(&[fixture.folder.path().join("releases")]).unwrap();
        let policy = Policy {
            roots: &roots,
            now: fixture.now,
            keep_newer_than: None,
            max_size: Some(0),
            act: Act::Remove,
        };
        let collected = fixture.store.collect(&policy, &Interrupt::new()).unwrap();
        assert_eq!((collected.rooted, collected.removed.len()), (1, 1));
        assert_eq!(fixture.names(), [named.to_string()]);
        let empty = fixture.folder.path().join("store");
        assert!(matches!(
            Roots::read(&[empty]),
            Err(RootsError::NoLock { .. })
        ));
    }

    #[test]
    fn what_a_running_baker_found_stays_until_it_ends() {
        let fixture = Fixture::new();
        let texts = ["looked at", "opened", "read", "left alone"];
        let digests = texts.map(|text| fixture.object(text, 30));
        let result = fixture.result("index-1", "x", 30);
        let other = Store::open(fixture.store.root()).unwrap();
        let size = texts[0].len() as u64;
        assert_eq!(
            other.presence(&digests[0], size).unwrap(),
            Presence::Present
        );
        drop(Objects::open(&other, &digests[1]).unwrap());
        drop(other.open_verified(&digests[2], 4).unwrap());
        assert!(other.note_use(&result));
        let collected = fixture.collect(|_| {});
        assert_eq!(collected.in_use, 4);
        assert_eq!(collected.removed.len(), 1);
        assert_eq!(collected.removed[0].name, digests[3].to_string());
        drop(other);
        assert_eq!(fixture.collect(|_| {}).removed.len(), 4);
        let sessions = fs::read_dir(fixture.store.root().join("sessions")).unwrap();
        assert_eq!(sessions.count(), 1, "only the collector's own is left");
    }

    #[test]
    fn a_use_between_look_and_removal_saves() {
        let fixture = Fixture::new();
        let digest = fixture.object("late", 30);
        let mut entries = fixture.store.survey().unwrap();
        let other = Store::open(fixture.store.root()).unwrap();
        assert_eq!(other.presence(&digest, 4).unwrap(), Presence::Present);
        let mut collected = Collected::default();
        let going = vec![entries.remove(0)];
        let sweep = fixture
            .store
            .sweep(going, &mut collected, &Interrupt::new());
        sweep.unwrap();
        assert_eq!((collected.in_use, collected.removed.len()), (1, 0));
        assert!(fixture.store.path(&digest).exists());
    }

    #[test]
    fn objects_are_as_young_as_the_results_that_name_them() {
        let fixture = Fixture::new();
        let (named, other) = (fixture.object("tree", 30), fixture.object("other", 30));
        let text = format!("{{\"stored\":{{\"digest\":\"{named}\"}}}}");
        fixture.result("scripts-1.json", &text, 1);
        fixture.collect(|policy| policy.keep_newer_than = Some(DAY * 2));
        assert!(fixture.store.path(&named).exists());
        assert!(!fixture.store.path(&other).exists());
    }

    #[test]
    fn folders_go_as_a_whole_and_downloads_under_way_stay() {
        let fixture = Fixture::new();
        let draft = fixture.store.stages().join("draft-1");
        fs::create_dir_all(draft.join("inner")).unwrap();
        fs::write(draft.join("inner/disk.raw"), vec![1; 9_000]).unwrap();
        fixture.age(&draft, 30);
        let (under_way, cut_off) = (Digest::of(b"under way"), Digest::of(b"cut off"));
        let scratch = fixture
            .store
            .partial(&under_way, &Interrupt::new())
            .unwrap();
        drop(fixture.store.partial(&cut_off, &Interrupt::new()).unwrap());
        for digest in [under_way, cut_off] {
            let path = fixture
                .store
                .root()
                .join("partial")
                .join(digest.to_string());
            fixture.age(&path, 30);
        }
        let size = |name: &str| {
            let entries = fixture.store.survey().unwrap();
            let found = entries.iter().find(|entry| entry.name == name);
            found.unwrap().size
        };
        assert!(size("draft-1") >= 9_000, "a folder with what is in it");
        let collected = fixture.collect(|_| {});
        assert_eq!((collected.removed.len(), collected.in_use), (2, 1));
        assert_eq!(fixture.names(), [under_way.to_string()]);
        let tmp = fs::read_dir(fixture.store.root().join("tmp")).unwrap();
        assert_eq!(tmp.count(), 0);
        scratch.discard();
    }

    #[test]
    fn an_interrupt_ends_a_collection() {
        let fixture = Fixture::new();
        fixture.object("old", 30);
        let interrupt = Interrupt::new();
        interrupt.raise();
        let roots = Roots::default();
        let policy = Policy {
            roots: &roots,
            now: fixture.now,
            keep_newer_than: None,
            max_size: None,
            act: Act::Remove,
        };
        let error = fixture.store.collect(&policy, &interrupt).unwrap_err();
        assert!(matches!(error, StoreError::Interrupted));
        assert_eq!(fixture.names().len(), 1);
    }
}
