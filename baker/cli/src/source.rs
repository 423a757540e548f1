//! The recipe folder on disk: recipe, lock, local files, and the git commit it belongs to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use baker_model::lock::FileLock;
use baker_model::manifest::Source;
use baker_model::recipe::FileSource;
use baker_model::{Digest, Lock, Recipe};

use crate::exit::{Exit, Failure};
use crate::guest;

/// A recipe and where it lies.
#[derive(Debug)]
pub struct RecipeFolder {
    /// The folder.
    pub path: PathBuf,
    /// The parsed `recipe.toml`.
    pub recipe: Recipe,
    /// Its text.
    pub text: String,
    /// The commit that it is known to be of; git is asked when there is none.
    pub source: Option<Source>,
}

impl RecipeFolder {
    /// Reads `path`, a folder with a `recipe.toml` or such a file itself.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let file = if path.is_dir() {
            path.join("recipe.toml")
        } else {
            path.to_owned()
        };
        let text = fs::read_to_string(&file).map_err(|error| {
            Failure::new(Exit::Recipe, error)
                .context(format!("cannot read the recipe {}", file.display()))
                .help("name a folder that holds a recipe.toml, such as recipes/minimal")
        })?;
        let recipe = Recipe::parse(&text).map_err(|error| {
            let hint = error.hint.clone();
            let place = format!("{}:{}:{}", file.display(), error.line, error.column);
            let failure = Failure::message(Exit::Recipe, format!("{place}: {}", error.problem));
            match hint {
                Some(hint) => failure.help(hint),
                None => failure,
            }
        })?;
        let parent = file
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        Ok(Self {
            path: parent.unwrap_or(Path::new(".")).to_owned(),
            recipe,
            text,
            source: None,
        })
    }

    /// Where the lock lies.
    pub fn lock_path(&self) -> PathBuf {
        self.path.join("recipe.lock")
    }

    /// The lock as written, or none.
    pub fn read_lock(&self) -> Result<Option<Lock>, Failure> {
        let path = self.lock_path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Failure::new(Exit::Fetch, error)
                    .context(format!("cannot read the lock {}", path.display())));
            }
        };
        Lock::parse(&text).map(Some).map_err(|error| {
            Failure::new(Exit::Fetch, error)
                .context(format!("cannot use the lock {}", path.display()))
                .help(format!("write it anew: baker lock {}", self.path.display()))
        })
    }

    /// The lock, which must be there and fit recipe, local files and the guest program.
    pub fn checked_lock(&self) -> Result<Lock, Failure> {
        let mend = format!("run: baker lock {}", self.path.display());
        let Some(lock) = self.read_lock()? else {
            let problem = format!("{} has no recipe.lock", self.path.display());
            return Err(Failure::message(Exit::Fetch, problem).help(mend));
        };
        let problem = if lock.recipe != self.recipe.digest() {
            Some("the recipe was edited after it was locked".to_owned())
        } else if lock.guest != guest::lock(self.recipe.architecture)? {
            Some("the lock names the guest program of another build of baker".to_owned())
        } else {
            self.changed_file(&lock)?
        };
        match problem {
            None => Ok(lock),
            Some(problem) => {
                let refresh = format!(
                    "run: baker lock --refresh {} (keeps all packages)",
                    self.path.display()
                );
                let mend = if lock.recipe == self.recipe.digest() {
                    refresh
                } else {
                    mend
                };
                let place = self.lock_path();
                Err(
                    Failure::message(Exit::Fetch, format!("{}: {problem}", place.display()))
                        .help(mend),
                )
            }
        }
    }

    fn changed_file(&self, lock: &Lock) -> Result<Option<String>, Failure> {
        let now = self.files()?;
        let changed = now.iter().find(|file| !lock.files.contains(file));
        Ok(changed.map(|file| format!("the file {} was changed after it was locked", file.path)))
    }

    /// The local files that the recipe names, by digest.
    pub fn files(&self) -> Result<Vec<FileLock>, Failure> {
        let mut files = Vec::new();
        for entry in self.recipe.all_files() {
            let FileSource::Local(name) = entry.source() else {
                continue;
            };
            let bytes = self.read_file(name)?;
            files.push(FileLock {
                path: name.to_owned(),
                size: bytes.len() as u64,
                sha256: Digest::of(&bytes),
            });
        }
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// The bytes of one local file.
    pub fn read_file(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let path = self.path.join(name);
        fs::read(&path).map_err(|error| {
            Failure::new(Exit::Recipe, error)
                .context(format!(
                    "cannot read {}, a source of the recipe",
                    path.display()
                ))
                .help("add the file, or correct `source` in recipe.toml")
        })
    }

    /// The commit that the folder belongs to; none outside git or without it.
    pub fn git(&self) -> Option<Source> {
        if self.source.is_some() {
            return self.source.clone();
        }
        let git = |args: &[&str]| {
            let output = Command::new("git")
                .arg("-C")
                .arg(&self.path)
                .args(args)
                .output()
                .ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            output.status.success().then(|| text.trim().to_owned())
        };
        let commit = git(&["rev-parse", "HEAD"])?;
        let dirty = !git(&["status", "--porcelain", "--", "."])?.is_empty();
        Some(Source { commit, dirty })
    }
}
