//! Running the real `baker` in a clean environment.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The root of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize()
        .expect("the tests lie in their workspace")
}

/// Names of the recipes of the repository that are locked, sorted.
#[must_use]
pub fn locked_recipes() -> Vec<String> {
    let folders = fs::read_dir(workspace().join("recipes")).expect("the workspace has recipes");
    let mut names: Vec<String> = folders
        .map(|entry| entry.expect("a folder can be listed"))
        .filter(|entry| entry.path().join("recipe.lock").exists())
        .map(|entry| entry.file_name().into_string().expect("names are text"))
        .collect();
    names.sort();
    assert!(names.contains(&"minimal".to_owned()), "{names:?}");
    names
}

/// A program of this host, also one for administrators.
#[must_use]
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    );
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// The `baker` program of the same profile as the test, built once per run.
#[must_use]
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows its own path");
        let folder = test
            .ancestors()
            .nth(2)
            .expect("tests lie in <profile>/deps");
        let release = folder.file_name().is_some_and(|name| name == "release");
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .current_dir(workspace())
            .args(["build", "--quiet", "--package", "baker"]);
        if release {
            cargo.arg("--release");
        }
        let status = cargo.status().expect("cargo can be started");
        assert!(status.success(), "building baker failed");
        folder.join("baker")
    })
}

/// What a run of `baker` said.
#[derive(Debug)]
pub struct Said {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Said {
    /// Asserts the exit code and words on standard error, in order.
    ///
    /// # Panics
    /// When they are not there.
    pub fn assert(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let mut rest = self.stderr.as_str();
        for word in words {
            let Some(at) = rest.find(word) else {
                panic!("`{word}` is missing (in this order) in:\n{}", self.stderr);
            };
            rest = &rest[at + word.len()..];
        }
    }
}

/// A `baker` with a home of its own: no config, no cache, no locale of this machine.
#[derive(Debug)]
pub struct Baker {
    home: tempfile::TempDir,
    store: PathBuf,
}

impl Default for Baker {
    fn default() -> Self {
        Self::new()
    }
}

impl Baker {
    /// A baker with an empty store.
    ///
    /// # Panics
    /// When no temporary folder can be made.
    #[must_use]
    pub fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary folder can be made");
        let store = home.path().join("store");
        Self { home, store }
    }

    /// The same with the store that is kept between test runs.
    #[must_use]
    pub fn with_kept_store(mut self) -> Self {
        self.store = kept_store();
        self
    }

    /// Its home folder, for files of the test.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its store folder.
    #[must_use]
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// The command, ready to be changed and run.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(program());
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("BAKER_STORE", &self.store)
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        let proxies = ["http_proxy", "https_proxy", "no_proxy"];
        for kept in ["TMPDIR", "BAKER_GUEST_ARM64"].into_iter().chain(proxies) {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Said {
        said(&self.command(args).output().expect("baker can be started"))
    }

    /// Runs it and wants success.
    ///
    /// # Panics
    /// When it fails.
    pub fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Said {
        let said = self.run(args);
        assert_eq!(said.code, Some(0), "{said:#?}");
        said
    }
}

/// The output as text.
#[must_use]
pub fn said(output: &Output) -> Said {
    Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The store of inputs kept between test runs.
#[must_use]
pub fn kept_store() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
            Path::new(&home).join(".cache")
        });
    cache.join("baker-tests")
}
