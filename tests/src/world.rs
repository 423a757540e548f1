//! A whole small world for a test: an archive, a key, a store, and the two stages called on them.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use baker_fetch::{
    FetchError, FetchOptions, Fetched, LockError, LockRequest, Patience, Sources, Store,
};
use baker_model::lock::GuestLock;
use baker_model::{Digest, Event, Interrupt, Listener, Lock, Recipe};
use tempfile::TempDir;

use crate::archive::{DATE, DAY, Key, Suite};
use crate::deb::Deb;

/// Remembers events as text.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Vec<String>>);

impl Recorder {
    /// All events so far.
    #[must_use]
    pub fn events(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// True when one of them has these words.
    #[must_use]
    pub fn heard(&self, words: &str) -> bool {
        self.events().iter().any(|event| event.contains(words))
    }
}

impl Listener for Recorder {
    fn event(&self, event: Event) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(format!("{event:?}"));
    }
}

/// An archive in a folder, its key, and a store.
#[derive(Debug)]
pub struct World {
    folder: TempDir,
    /// Signs the archive.
    pub key: Key,
    /// The archive as `file:` mirror, the key as keyring, no patience.
    pub sources: Sources,
    /// An empty store.
    pub store: Store,
    /// The time at which stages are called.
    pub now: i64,
    /// Hears what stages say.
    pub recorder: Recorder,
    /// Asks stages to stop.
    pub interrupt: Interrupt,
}

impl World {
    /// A world one hour after [`DATE`].
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let key = Key::new("test archive")?;
        let keyring = folder.path().join("archive.gpg");
        key.write(&keyring)?;
        let archive = folder.path().join("archive");
        std::fs::create_dir_all(&archive)?;
        let sources = patient(&format!("file:{}", archive.display()), &keyring)?;
        let store = Store::open(&folder.path().join("store"))?;
        Ok(Self {
            folder,
            key,
            sources,
            store,
            now: DATE + DAY / 24,
            recorder: Recorder::default(),
            interrupt: Interrupt::new(),
        })
    }

    /// The folder of the archive.
    #[must_use]
    pub fn archive(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    /// The keyring.
    #[must_use]
    pub fn keyring(&self) -> PathBuf {
        self.folder.path().join("archive.gpg")
    }

    /// Uses another mirror instead.
    ///
    /// # Errors
    /// It is no URL.
    pub fn use_mirror(&mut self, url: &str) -> Result<()> {
        self.sources = patient(url, &self.keyring())?;
        Ok(())
    }

    /// Writes a suite into the archive.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn publish(&self, suite: &Suite) -> Result<()> {
        suite.write(&self.archive(), &self.key)
    }

    /// Calls the resolve stage.
    ///
    /// # Errors
    /// Those of the stage.
    pub fn lock(&self, recipe: &Recipe, previous: Option<&Lock>) -> Result<Lock, LockError> {
        self.with_request(recipe, previous, baker_fetch::lock)
    }

    /// Calls something with a request for a lock.
    ///
    /// # Errors
    /// Those of what is called.
    pub fn with_request<T>(
        &self,
        recipe: &Recipe,
        previous: Option<&Lock>,
        call: impl FnOnce(&LockRequest<'_>) -> Result<T, LockError>,
    ) -> Result<T, LockError> {
        let guest = GuestLock {
            size: 3,
            sha256: Digest::of(b"gst"),
        };
        call(&LockRequest {
            recipe,
            previous,
            parent: None,
            guest: &guest,
            files: &[],
            sources: &self.sources,
            store: &self.store,
            now: self.now,
            listener: &self.recorder,
            interrupt: &self.interrupt,
        })
    }

    /// Calls the fetch stage with three jobs.
    ///
    /// # Errors
    /// Those of the stage.
    pub fn fetch(&self, lock: &Lock) -> Result<Fetched, FetchError> {
        let options = FetchOptions {
            jobs: 3,
            ..FetchOptions::default()
        };
        let Self {
            sources,
            store,
            recorder,
            interrupt,
            ..
        } = self;
        baker_fetch::fetch(lock, sources, store, recorder, interrupt, options)
    }
}

/// Sources with one mirror and one keyring, which try three times without pauses.
///
/// # Errors
/// It is no URL.
pub fn patient(url: &str, keyring: &Path) -> Result<Sources> {
    let mut sources = Sources::default()
        .with_mirror(url)?
        .with_keyrings(vec![keyring.to_owned()]);
    let (pause, stall) = (Duration::from_millis(1), Duration::from_secs(5));
    sources.patience = Patience {
        tries: 3,
        pause,
        stall,
    };
    Ok(sources)
}

/// The suite `trixie` with a kernel, its metapackage, a boot loader, and `hello`, which needs
/// `libhello`.
#[must_use]
pub fn suite() -> Suite {
    let image = "linux-image-6.12-amd64";
    Suite::new("trixie")
        .package(Deb::new("linux-image-amd64", "6.12").depends(&format!("{image} (= 6.12)")))
        .package(Deb::new(image, "6.12").depends("kmod, initramfs").file(
            "/boot/vmlinuz",
            0o644,
            "k",
        ))
        .package(Deb::new("systemd-boot-efi", "257").depends("libnothing"))
        .package(Deb::new("hello", "1.0").depends("libhello (>= 1)").file(
            "/usr/bin/hello",
            0o755,
            "h",
        ))
        .package(Deb::new("libhello", "1.2").file("/usr/lib/libhello.so", 0o644, vec![7; 90_000]))
}

/// A recipe that asks for these packages of `trixie`; `more` are lines of its `[debian]` table.
///
/// # Errors
/// The lines are no recipe.
pub fn recipe(packages: &[&str], more: &str) -> Result<Recipe> {
    let text = format!(
        "name = \"tiny\"\nversion = \"1.0.0\"\n[debian]\nsuite = \"trixie\"\n\
         suites = [\"trixie\"]\npackages = {packages:?}\n{more}\n\
         [kernel]\npackage = \"linux-image-amd64\"\n"
    );
    Ok(Recipe::parse(&text)?)
}
