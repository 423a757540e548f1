//! The recipe folder on disk: recipe, lock, local files, and the git commit it belongs to.

mod family;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use baker_model::lock::FileLock;
use baker_model::manifest::Source;
use baker_model::recipe::FileSource;
use baker_model::recipe::family::prefix;
use baker_model::{Digest, Lock, Recipe};

use crate::exit::{Exit, Failure};
use crate::guest;

/// A recipe and where it lies.
#[derive(Debug)]
pub struct RecipeFolder {
    /// The folder.
    pub path: PathBuf,
    /// The parsed `recipe.toml`, with all that it extends.
    pub recipe: Recipe,
    /// Its text; of several files that are one recipe, the text that says the same in one.
    pub text: String,
    /// The commit that it is known to be of; git is asked when there is none.
    pub source: Option<Source>,
    /// Which of its profiles this is.
    pub profile: Option<String>,
    /// The profiles that it has beside itself.
    pub profiles: Vec<String>,
    /// What it extends, what all others stand on first.
    pub ancestors: Vec<Ancestor>,
}

/// A recipe that another one extends.
#[derive(Debug, Clone)]
pub struct Ancestor {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// Its answers to questions of packages, one line each.
    pub answers: String,
    /// Names of its `[[run]]` commands, and of those before it.
    pub runs: Vec<String>,
}

impl RecipeFolder {
    /// Reads `path`, a folder with a `recipe.toml` or such a file itself.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        Self::read_profile(path, None)
    }

    /// The same, or one of its profiles.
    pub fn read_profile(path: &Path, profile: Option<&str>) -> Result<Self, Failure> {
        family::read(path, profile)
    }

    /// Where the lock lies.
    pub fn lock_path(&self) -> PathBuf {
        match &self.profile {
            None => self.path.join("recipe.lock"),
            Some(profile) => self.path.join(format!("recipe.{profile}.lock")),
        }
    }

    /// The recipe as it is named on the command line.
    pub fn words(&self) -> String {
        match &self.profile {
            None => self.path.display().to_string(),
            Some(profile) => format!("{} --profile {profile}", self.path.display()),
        }
    }

    /// The nearest recipe that it extends, with its lock.
    pub fn parent(&self) -> Result<Option<(&Ancestor, Lock)>, Failure> {
        let Some(parent) = self.ancestors.last() else {
            return Ok(None);
        };
        let path = parent.path.join("recipe.lock");
        match read_lock(&path, &parent.path.display().to_string())? {
            Some(lock) => Ok(Some((parent, lock))),
            None => {
                let problem = format!(
                    "{} extends {}, which has no recipe.lock",
                    self.path.display(),
                    parent.path.display()
                );
                let help = format!("run: baker lock {}", parent.path.display());
                Err(Failure::message(Exit::Fetch, problem).help(help))
            }
        }
    }

    /// Where a local file of the recipe lies.
    pub fn locate(&self, name: &str) -> PathBuf {
        let inherited = self.ancestors.iter().find_map(|ancestor| {
            let rest = name.strip_prefix(&prefix(&ancestor.name))?;
            Some(ancestor.path.join(rest))
        });
        inherited.unwrap_or_else(|| self.path.join(name))
    }

    /// The lock as written, or none.
    pub fn read_lock(&self) -> Result<Option<Lock>, Failure> {
        read_lock(&self.lock_path(), &self.words())
    }

    /// The lock, which must be there and fit recipe, local files and the guest program.
    pub fn checked_lock(&self) -> Result<Lock, Failure> {
        let words = self.words();
        let again = format!("run: baker lock {words}");
        let place = self.lock_path();
        let Some(lock) = self.read_lock()? else {
            let problem = format!("there is no {}", place.display());
            return Err(Failure::message(Exit::Fetch, problem).help(again));
        };
        let refresh = format!("run: baker lock --refresh {words} (keeps all packages)");
        let (problem, mend) = if lock.recipe != self.recipe.digest() {
            let problem = "the recipe was edited after it was locked";
            (Some(problem.to_owned()), again)
        } else if lock.guest != guest::lock(self.recipe.architecture)? {
            let problem = "the lock names the guest program of another build of baker";
            (Some(problem.to_owned()), refresh)
        } else if let Some(problem) = self.changed_parent(&lock)? {
            (Some(problem), again)
        } else {
            (self.changed_file(&lock)?, refresh)
        };
        match problem {
            None => Ok(lock),
            Some(problem) => {
                let problem = format!("{}: {problem}", place.display());
                Err(Failure::message(Exit::Fetch, problem).help(mend))
            }
        }
    }

    /// What is extended must be what the packages were pinned to.
    fn changed_parent(&self, lock: &Lock) -> Result<Option<String>, Failure> {
        let Some((parent, theirs)) = self.parent()? else {
            return Ok(None);
        };
        let known = lock.layers.last().map(|layer| layer.pins);
        let is_known = known == Some(theirs.pins());
        let place = parent.path.display();
        Ok((!is_known).then(|| format!("{place}, which it extends, was locked anew")))
    }

    fn changed_file(&self, lock: &Lock) -> Result<Option<String>, Failure> {
        let now = self.files()?;
        let changed = now.iter().find(|file| !lock.files.contains(file));
        if let Some(file) = changed {
            let problem = format!("the file {} was changed after it was locked", file.path);
            return Ok(Some(problem));
        }
        let gone = lock.files.iter().find(|file| !now.contains(file));
        Ok(gone.map(|file| format!("the file {} was removed after it was locked", file.path)))
    }

    /// The local files that the recipe names, by digest.
    pub fn files(&self) -> Result<Vec<FileLock>, Failure> {
        let mut files = Vec::new();
        for entry in self.recipe.all_files() {
            let FileSource::Local(name) = entry.source() else {
                continue;
            };
            files.push(self.file(name)?);
        }
        for input in self.recipe.command_inputs() {
            let FileSource::Local(name) = input.source() else {
                continue;
            };
            if self.locate(name).is_dir() {
                self.folder(name, &mut files)?;
            } else {
                files.push(self.file(name)?);
            }
        }
        files.sort();
        files.dedup();
        Ok(files)
    }

    fn file(&self, name: &str) -> Result<FileLock, Failure> {
        let bytes = self.read_file(name)?;
        Ok(FileLock {
            path: name.to_owned(),
            size: bytes.len() as u64,
            sha256: Digest::of(&bytes),
        })
    }

    /// All files below a folder beside the recipe.
    fn folder(&self, name: &str, files: &mut Vec<FileLock>) -> Result<(), Failure> {
        let path = self.locate(name);
        let list = || -> io::Result<Vec<_>> { fs::read_dir(&path)?.collect() };
        let entries = list().map_err(|error| {
            Failure::new(Exit::Recipe, error).context(format!("cannot read {}", path.display()))
        })?;
        for entry in entries {
            let Some(part) = entry.file_name().to_str().map(str::to_owned) else {
                let problem = format!("{} has no name in UTF-8", entry.path().display());
                return Err(Failure::message(Exit::Recipe, problem).help("rename it"));
            };
            let name = format!("{}/{part}", name.trim_end_matches('/'));
            match entry.path().is_dir() {
                true => self.folder(&name, files)?,
                false => files.push(self.file(&name)?),
            }
        }
        Ok(())
    }

    /// The bytes of one local file.
    pub fn read_file(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let path = self.locate(name);
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

fn read_lock(path: &Path, words: &str) -> Result<Option<Lock>, Failure> {
    let text = match fs::read_to_string(path) {
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
            .help(format!("write it anew: baker lock {words}"))
    })
}
