//! Real recipes on the real archive: locked, fetched and baked once per test run.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use crate::program::{Baker, workspace};

/// A recipe of the repository in a folder of its own, locked against the archive of today.
#[derive(Debug)]
pub struct Locked {
    /// The baker whose store holds all inputs.
    pub baker: Baker,
    /// The folder of the recipe.
    pub recipe: PathBuf,
}

impl Locked {
    /// Copies `recipes/<name>`, changes its text by `change`, locks and fetches it. What it says
    /// of Secure Boot is left out first: most tests need no keys.
    ///
    /// # Panics
    /// When the archive cannot be reached or the recipe is refused.
    #[must_use]
    pub fn new(name: &str, change: impl Fn(String) -> String) -> Self {
        Self::with_secure_boot(name, |text| change(without_secure_boot(&text)))
    }

    /// The same with Secure Boot as the recipe has it.
    ///
    /// # Panics
    /// When the archive cannot be reached or the recipe is refused.
    #[must_use]
    pub fn with_secure_boot(name: &str, change: impl Fn(String) -> String) -> Self {
        Self::made(name, change, |_| ())
    }

    /// The same as [`Locked::new`], with the file `path` beside the recipe, made of these bytes.
    ///
    /// # Panics
    /// When the archive cannot be reached or the recipe is refused.
    #[must_use]
    pub fn with_file(
        name: &str,
        (path, bytes): (&str, &[u8]),
        change: impl Fn(String) -> String,
    ) -> Self {
        let plain = |text: String| change(without_secure_boot(&text));
        Self::made(name, plain, |recipe| {
            let path = recipe.join(path);
            let folder = path.parent().expect("a file lies in a folder");
            let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, bytes));
            written.expect("the copy can be written");
        })
    }

    fn made(name: &str, change: impl Fn(String) -> String, add: impl Fn(&Path)) -> Self {
        let baker = Baker::new().with_kept_store();
        let recipe = baker.home().join(name);
        copy_folder(&workspace().join("recipes").join(name), &recipe);
        let file = recipe.join("recipe.toml");
        let text = fs::read_to_string(&file).expect("the recipe is there");
        fs::write(&file, change(text)).expect("the copy can be written");
        add(&recipe);
        drop(fs::remove_file(recipe.join("recipe.lock")));
        baker.ok(["lock".as_ref(), recipe.as_os_str()]);
        baker.ok(["fetch".as_ref(), recipe.as_os_str()]);
        Self { baker, recipe }
    }

    /// Makes the folder `store` a store that holds the packages of the lock, and nothing that any bake
    /// has made of them.
    ///
    /// # Panics
    /// When the lock cannot be read or a package not copied.
    pub fn copy_inputs(&self, store: &Path) {
        let lock = fs::read_to_string(self.recipe.join("recipe.lock"));
        let lock = baker_model::Lock::parse(&lock.expect("the recipe is locked"));
        let from = baker_fetch::Store::open(self.baker.store()).expect("the store is there");
        let to = baker_fetch::Store::open(store).expect("a store can be made");
        for package in lock.expect("the lock is whole").all_packages() {
            let copied = to.put_file(&from.path(&package.sha256));
            copied.expect("a package can be copied");
        }
    }

    /// Bakes into `to` and gives the draft's folder.
    ///
    /// # Panics
    /// When it cannot be baked.
    #[must_use]
    pub fn bake(&self, to: &Path) -> PathBuf {
        let said = self.baker.ok([
            "bake".as_ref(),
            self.recipe.as_os_str(),
            "--to".as_ref(),
            to.as_os_str(),
        ]);
        PathBuf::from(said.stdout.trim())
    }
}

fn without_secure_boot(text: &str) -> String {
    let plain = text.replace("secure-boot = true", "secure-boot = false");
    plain.replace("\"uefi-secure\"", "\"uefi\"")
}

/// `recipes/minimal`, locked and fetched once.
#[must_use]
pub fn minimal() -> &'static Locked {
    static LOCKED: OnceLock<Locked> = OnceLock::new();
    LOCKED.get_or_init(|| Locked::new("minimal", |text| text))
}

/// The draft of `recipes/minimal`, baked once. Never change it: copy it.
#[must_use]
pub fn minimal_draft() -> &'static Path {
    static DRAFT: OnceLock<PathBuf> = OnceLock::new();
    DRAFT.get_or_init(|| minimal().bake(&minimal().baker.home().join("drafts")))
}

/// As many machines as cores: more guests would wait for each other.
///
/// # Panics
/// Never.
pub fn seated<T>(work: impl FnOnce() -> T) -> T {
    static RUNNING: Mutex<usize> = Mutex::new(0);
    static FREED: Condvar = Condvar::new();
    /// Gives the seat back, also when the work panics.
    struct Seat;
    impl Drop for Seat {
        fn drop(&mut self) {
            *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
            FREED.notify_one();
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut running = FREED
        .wait_while(running, |running| *running >= cores)
        .unwrap_or_else(PoisonError::into_inner);
    *running += 1;
    drop(running);
    let _seat = Seat;
    work()
}

/// Copies a folder with everything in it, holes kept.
///
/// # Panics
/// When it cannot be copied.
pub fn copy_folder(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .args(["-r", "--sparse=always"])
        .arg(from)
        .arg(to)
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "cannot copy {}",
        from.display()
    );
}
